//! Tests of the engine as a whole.

mod codecs;
mod rules;
mod world;
mod worlds;
