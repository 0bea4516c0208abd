"""Sections of a report's page: sentences, figures and tables that the template lays out."""
