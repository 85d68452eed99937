"""The measures themselves, a module for each family; importing one declares what it measures."""
