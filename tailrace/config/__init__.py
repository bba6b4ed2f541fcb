"""From a YAML file to checked settings, with file:line:column for every mistake."""
