"""The sections of a report's page: sentences, figures and tables, for the template to lay out."""
