"""What every context needs and none owns: moving a row through its lifecycle, locks on things outside the database,
keyset paging, template components. It has no models and stays small."""
