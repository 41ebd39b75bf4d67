//! Property tests: what must hold for every input, not for chosen ones.

mod sacct;
