"""Pages on which people decide: blinded, self-contained, their result a file that the browser downloads."""
