"""What the site is made of beside the written pages: references that are generated from the package."""
