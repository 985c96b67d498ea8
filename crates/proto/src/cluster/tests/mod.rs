//! Tests of the engine as a whole.

mod codecs;
mod inherit;
mod lost;
mod purse;
mod rules;
mod single;
mod world;
mod worlds;
