"""The HTTP shell: the merchant API, health and the pages. It decides nothing about payments."""
