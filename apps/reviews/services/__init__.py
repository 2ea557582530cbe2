"""Deciding about reviews: `campaigns` drafts, launches, reminds and closes; `items` decides, undoes, passes on, signs."""
