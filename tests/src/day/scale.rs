//! Round numbers on an axis.

/// Where an axis from 0 has its ticks, the last of them at its end or beyond `largest`.
#[must_use]
pub(super) fn ticks(largest: f64, count_max: usize) -> Vec<f64> {
    if !largest.is_finite() || largest <= 0.0 {
        return vec![0.0, 1.0];
    }
    let step = step(largest, count_max);
    let mut ticks = vec![0.0];
    for number in 1..=count_max {
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let tick = step * number as f64;
        ticks.push(tick);
        // A hair's breadth of rounding makes no further tick.
        if tick >= largest * (1.0 - 1e-9) {
            break;
        }
    }
    ticks
}

/// The smallest of 1, 2 and 5 times a power of ten of which no more than `count_max` come to `largest`.
fn step(largest: f64, count_max: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let least = largest / count_max.max(1) as f64;
    let power = 10_f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    round.into_iter().find(|round| *round >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A tick as it is written: no more digits than tell it from its neighbours.
#[must_use]
pub(super) fn written(tick: f64) -> String {
    let text = format!("{tick:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_begin_at_nothing_and_reach_the_largest_value() {
        for (largest, expected) in [
            (60.0, &[0.0, 20.0, 40.0, 60.0][..]),
            (0.7, &[0.0, 0.2, 0.4, 0.6, 0.8]),
            (1.0, &[0.0, 0.5, 1.0]),
            (99.0, &[0.0, 50.0, 100.0]),
            (144.2, &[0.0, 50.0, 100.0, 150.0]),
            (8_640.0, &[0.0, 5_000.0, 10_000.0]),
            (0.0, &[0.0, 1.0]),
            (f64::NAN, &[0.0, 1.0]),
        ] {
            let found: Vec<_> = ticks(largest, 4).into_iter().map(written).collect();
            let expected: Vec<_> = expected.iter().copied().map(written).collect();
            assert_eq!(found, expected, "{largest}");
        }
        assert_eq!(ticks(60.0, 6).len(), 7, "every ten minutes");
    }

    #[test]
    fn whatever_the_value_there_are_few_ticks_and_the_last_is_not_far_beyond_it() {
        for exponent in -3..9 {
            for digits in 1..100 {
                let largest = f64::from(digits) * 10_f64.powi(exponent);
                let ticks = ticks(largest, 4);
                let last = ticks[ticks.len() - 1];
                assert!((2..=5).contains(&ticks.len()), "{largest}: {ticks:?}");
                assert!(last >= largest * (1.0 - 1e-9) && last < largest * 2.5, "{largest}: {ticks:?}");
            }
        }
    }
}
