"""Feature distillation: what the teacher's layers compute is the knowledge."""
