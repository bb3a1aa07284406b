"""The site agent: outbound only; the hospital holds the veto."""
