"""Messages, signatures and transport."""
