"""Postgres: the truth and the queue. Tables, the unit of work, and one repository an aggregate."""
