"""The sweep: finds what is stuck and moves it on (psp-reports.md section 3.3).

rules      what each of S1 to S10 finds, does, and when it gives up, as one table
findings   what a sweep found, as values
sagas      S2, S3, S5, S6, S7, S9: payments that rest in the middle
desk       S2, S6, S7: payments that are a person's
money_left S7: payments that were given up with money left
webhooks   S1, S4: stored webhooks that are not applied
refunds    S8: refunds that nobody confirmed, or that came back
reports    S10: reports that were not announced
cases      what a person must look at, as breaks
sweep      plans, and carries out
"""

from reconciliation.sweep.findings import Action, Case, Finding
from reconciliation.sweep.rules import RULES
from reconciliation.sweep.sweep import Sweep
from reconciliation.sweep.webhooks import Orphan, StoredWebhooks

__all__ = ["RULES", "Action", "Case", "Finding", "Orphan", "StoredWebhooks", "Sweep"]
