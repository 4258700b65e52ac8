"""Gapless: everyone's own complete, strictly chronological Following feed."""
