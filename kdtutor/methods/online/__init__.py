"""Online distillation: the teacher learns too."""
