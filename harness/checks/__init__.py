"""Tell whether one reply is good. Parsing libraries are imported in the check that needs them."""
