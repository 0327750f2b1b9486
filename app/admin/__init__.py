"""Access of operators to the line: what they see of it, and what they can do. See docs/admin.md."""
