"""The saga: steps as data (``definition``), the booking flow (``booking``), and what runs it."""
