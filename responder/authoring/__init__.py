"""What does an author of playbooks get? Tests, scaffolds, schemas for editors, a reference page, local overrides."""
