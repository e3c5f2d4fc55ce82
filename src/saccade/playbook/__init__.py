"""The playbook: goals → baseline → profile → bottlenecks → optimizations → validation → bundle."""
