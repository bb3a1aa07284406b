"""Policy, approvals and audit, pure."""
