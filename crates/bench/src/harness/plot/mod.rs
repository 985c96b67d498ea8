//! Pictures of results.

mod axis;
mod latency;
mod panels;
mod svg;

pub(crate) use self::latency::{Curve, CurvePoint, latency};
pub(crate) use self::panels::{Mark, Panel, Series, Unit, panels};
