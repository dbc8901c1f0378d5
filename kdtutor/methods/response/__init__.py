"""Response distillation: the teacher's answers are the knowledge."""
