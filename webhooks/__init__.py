"""The PSP's webhooks, from the wire to the payment.

receiver -> notifications -> signatures -> inbox          [one commit, then 200]
drain -> meanings -> app.services.record_fact             [one commit]
"""
