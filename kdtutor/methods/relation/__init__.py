"""Relation distillation: how examples lie to each other is the knowledge."""
