//! Building a read model's tables beside the ones in use, and putting them in their place.
