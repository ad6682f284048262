//! Trainings, from the text to what is kept of them.
