//! Whether something grows: a straight line through what was measured.

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// By how much y grows with each x.
    pub slope: f64,
    /// The standard error of that.
    pub error: f64,
}

impl Trend {
    /// The line through points (x, y).
    ///
    /// # Panics
    /// Where there are fewer than three, or all have the same x.
    #[must_use]
    pub fn of(points: &[(f64, f64)]) -> Self {
        assert!(points.len() > 2, "two points are on a line always");
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        assert!(spread > 0.0, "all points have the same x");
        let together: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        let slope = together / spread;
        let rest = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
        let rest: f64 = points.iter().map(rest).sum();
        Self { slope, error: (rest / (count - 2.0) / spread).sqrt() }
    }

    /// Whether it surely grows by more than this: also where the slope is three standard errors lower.
    #[must_use]
    pub fn exceeds(&self, most: f64) -> bool {
        self.slope - 3.0 * self.error > most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..60).map(|n| f64::from(n) * 100.0).map(|x| (x, of(x))).collect()
    }

    /// Noise as a busy process has it: 20 descriptors more or less.
    fn noise(x: f64) -> f64 {
        fastrand::Rng::with_seed(x.to_bits()).f64() * 40.0 - 20.0
    }

    #[test]
    fn a_line_is_found_exactly() {
        let trend = Trend::of(&points(|x| 7.0 + x / 50.0));
        assert!((trend.slope - 0.02).abs() < 1e-12 && trend.error < 1e-12, "{trend:?}");
        assert!(trend.exceeds(0.019) && !trend.exceeds(0.021));
    }

    #[test]
    fn a_leak_is_seen_in_the_noise_and_noise_is_no_leak() {
        let leaks = Trend::of(&points(|x| 40.0 + noise(x) + x / 100.0));
        assert!(leaks.exceeds(0.002), "one descriptor of a hundred tasks: {leaks:?}");
        let sound = Trend::of(&points(|x| 40.0 + noise(x)));
        assert!(!sound.exceeds(0.002), "{sound:?}");
    }
}
