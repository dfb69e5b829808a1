"""The report page: one HTML file that holds all tables, plots and the commands that lead to them."""

from effxfer.page.page import Section, write_page

__all__ = ["Section", "write_page"]
