"""Strict models of the documents in manifests, tickets and adapters.

A seal detects damage; these models check that a document with a valid seal makes sense, before anything uses it.
"""
