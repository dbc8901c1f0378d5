"""Self-distillation: the network is its own teacher."""
