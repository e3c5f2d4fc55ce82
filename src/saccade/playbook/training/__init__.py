"""The playbook of a training: baseline to final, into one run folder."""
