"""Smaller and faster programs, each behind a gate."""
