"""A finished distilled set as others take it: in layouts that their training reads, with a dataset card and a manifest."""
