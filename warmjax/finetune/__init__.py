"""Fine-tuning by a service: pairs to a checked training file, jobs that survive restarts, models by arm and epoch."""
