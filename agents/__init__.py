"""What runs a configuration: plan, wiring, runner and supervisor."""
