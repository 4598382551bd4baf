//! One axis of a chart: its range, the positions of figures, and the ticks. Every figure has a position on the chart:
//! figures outside of the range lie at its ends, and NaN lies at its beginning.

/// How figures map to positions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// An axis from `low` to `high` in figures, and from `from` to `to` in positions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

/// Figures are clamped to these bounds, which keeps the arithmetic finite.
const MIN: f64 = 1e-9;
const MAX: f64 = 1e18;

impl Axis {
    /// From 0 to a round number not below the maximum of `figures`.
    pub(super) fn from_zero(figures: impl IntoIterator<Item = f64>) -> Axis {
        let (_, most) = ends(figures, 0.0);
        let step = step(most, 4.0) / 2.0;
        Axis::new(Scale::Linear, 0.0, (most / step).ceil() * step)
    }

    /// From the minimum to the maximum of `figures`.
    pub(super) fn exactly(figures: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = ends(figures, -MAX);
        Axis::new(Scale::Linear, low, high)
    }

    /// Logarithmic, from the smallest positive figure to the maximum.
    pub(super) fn log_exactly(figures: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = ends(figures.into_iter().filter(|figure| *figure > 0.0), MIN);
        Axis::new(Scale::Log, low, high)
    }

    /// Logarithmic, with ends at 1, 2 or 5 times a power of 10.
    pub(super) fn log(figures: impl IntoIterator<Item = f64>) -> Axis {
        let exact = Axis::log_exactly(figures);
        Axis::new(Scale::Log, below(exact.low), above(exact.high))
    }

    /// Widens an empty range.
    fn new(scale: Scale, low: f64, high: f64) -> Axis {
        let (low, high) = match scale {
            Scale::Linear if high <= low => (low, low + low.abs().max(1.0)),
            Scale::Log if high <= low * 1.01 => (low / 3.0, low * 3.0),
            _ => (low, high),
        };
        Axis { scale, low, high, from: 0.0, to: 1.0 }
    }

    /// The axis with other positions.
    pub(super) fn between(self, from: f64, to: f64) -> Axis {
        Axis { from, to, ..self }
    }

    /// The position of a figure, rounded to a tenth.
    pub(super) fn place(&self, figure: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (figure - self.low) / (self.high - self.low),
            Scale::Log => (figure.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let place = self.from + share * (self.to - self.from);
        (place * 10.0).round() / 10.0
    }

    /// About five round numbers within the range.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high - self.low, 4.0);
                let first = (self.low / step).ceil();
                let count = ((self.high / step + 1e-9).floor() - first).clamp(0.0, 20.0) as usize;
                (0..=count).map(|at| (first + at as f64) * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let factors: &[f64] = match decades {
                    _ if decades <= 1.5 => &[1.0, 2.0, 5.0],
                    _ if decades <= 2.5 => &[1.0, 3.0],
                    _ => &[1.0],
                };
                let every = (decades / 6.0).ceil().max(1.0) as i32;
                let (first, last) = (exponent(self.low), exponent(self.high));
                let inside = |figure: &f64| *figure >= self.low * 0.999 && *figure <= self.high * 1.001;
                (first..=last)
                    .filter(|power| (power - first) % every == 0)
                    .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
                    .filter(inside)
                    .collect()
            }
        }
    }
}

/// The `figures` whose labels of width `room` do not overlap. The last figure is always among them.
pub(super) fn apart(axis: &Axis, figures: &[f64], room: f64) -> Vec<f64> {
    let mut kept: Vec<f64> = Vec::new();
    for figure in figures.iter().rev() {
        if kept.last().is_none_or(|last| (axis.place(*last) - axis.place(*figure)).abs() >= room) {
            kept.push(*figure);
        }
    }
    kept.reverse();
    kept
}

/// A round number: 1, 2 or 5 times a power of 10. About `count` of it add up to `span`.
fn step(span: f64, count: f64) -> f64 {
    let span = if span > MIN { span } else { 1.0 };
    above(span / count * 0.8)
}

/// The minimum and maximum of `figures`, clamped to `floor` and [`MAX`]; 1 if there are none.
fn ends(figures: impl IntoIterator<Item = f64>, floor: f64) -> (f64, f64) {
    let figures =
        figures.into_iter().filter(|figure| figure.is_finite()).map(|figure| figure.clamp(floor, MAX));
    figures
        .fold(None, |ends, figure| match ends {
            None => Some((figure, figure)),
            Some((low, high)) => Some((figure.min(low), figure.max(high))),
        })
        .unwrap_or((1.0, 1.0))
}

fn exponent(figure: f64) -> i32 {
    (figure.log10() + 1e-9).floor() as i32
}

/// The largest round number that is not above `figure`.
fn below(figure: f64) -> f64 {
    let unit = 10f64.powi(exponent(figure));
    [5.0, 2.0, 1.0].into_iter().map(|factor| factor * unit).find(|round| *round <= figure).unwrap_or(unit)
}

/// The smallest round number that is not below `figure`.
fn above(figure: f64) -> f64 {
    let unit = 10f64.powi(exponent(figure));
    let round = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * unit);
    round.into_iter().find(|round| *round >= figure * 0.999_999).unwrap_or(10.0 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_ticks_are_round() {
        let axis = Axis::from_zero([48_300.0, 12.0]);
        assert_eq!(axis.high, 50_000.0);
        assert_eq!(axis.ticks(), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        let axis = Axis::log([130.0, 45_000.0]);
        assert_eq!((axis.low, axis.high), (100.0, 50_000.0));
        assert_eq!(axis.ticks(), [100.0, 1_000.0, 10_000.0]);
        assert_eq!(Axis::log([1.0, 10.0]).ticks(), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn equal_ratios_are_equal_distances() {
        let axis = Axis::log_exactly([1.0, 16.0, 256.0]).between(0.0, 200.0);
        assert_eq!([1.0, 16.0, 256.0].map(|figure| axis.place(figure)), [0.0, 100.0, 200.0]);
    }

    #[test]
    fn every_figure_has_a_position() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, -1.0, 0.0, 5e-324];
        let sets: [&[f64]; 6] = [&[], &[0.0], &[7.0], &odd, &[f64::MAX, f64::MIN], &[5e-324, 1e308]];
        for set in sets {
            let figures = set.iter().copied();
            for axis in [
                Axis::from_zero(figures.clone()),
                Axis::exactly(figures.clone()),
                Axis::log(figures.clone()),
                Axis::log_exactly(figures.clone()),
            ] {
                let axis = axis.between(10.0, 110.0);
                for figure in odd {
                    let place = axis.place(figure);
                    assert!((10.0..=110.0).contains(&place), "{figure} is at {place} on {axis:?}");
                }
                assert!(axis.ticks().iter().all(|tick| tick.is_finite()), "{axis:?}");
                assert!(axis.ticks().len() <= 21, "{axis:?}");
            }
        }
    }

    #[test]
    fn labels_do_not_overlap() {
        let axis = Axis::exactly([0.0, 100.0]).between(0.0, 100.0);
        assert_eq!(apart(&axis, &[0.0, 5.0, 40.0, 90.0, 100.0], 30.0), [5.0, 40.0, 100.0]);
    }
}
