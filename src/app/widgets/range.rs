//! Which values the ends of a colour map stand for.

use eframe::egui::{Align, ComboBox, DragValue, Layout, Response, Ui, vec2};
use serde::{Deserialize, Serialize};

use super::stats::Stats;
use crate::figure::number;

/// How values between the ends are spread over the colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scale {
    /// Proportional.
    #[default]
    Linear,
    /// `sign(x) · log(1 + |x| / t)` with `t` a thousandth of the limit: linear around zero, logarithmic beyond.
    SymmetricLog,
}

/// Where the colours end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Limit {
    /// At the largest magnitude.
    Full,
    /// At the magnitude that this many percent of the values do not exceed.
    Percentile(f64),
    /// At a value that a person typed.
    Manual(f32),
}

/// What a person chose; [`RangeControl::resolve`] makes it a [`ValueRange`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RangeControl {
    /// Linear or symmetric logarithmic.
    pub scale: Scale,
    /// Where the colours end.
    pub limit: Limit,
    /// Linked pictures share one range, so that equal colours are equal values.
    pub shared: bool,
}

impl Default for RangeControl {
    fn default() -> Self {
        // A few outliers would leave everything else pale.
        Self { scale: Scale::Linear, limit: Limit::Percentile(99.9), shared: true }
    }
}

/// Values at the two ends of a colour map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    /// The lowest colour.
    pub low: f32,
    /// The highest colour.
    pub high: f32,
    /// Spread in between.
    pub scale: Scale,
    /// Values beyond the ends exist and get the colours of the ends.
    pub clipped: bool,
}

/// Below this share of the limit the symmetric log scale is linear.
const LINEAR_SHARE: f32 = 1e-3;

impl RangeControl {
    /// The range for these values. Symmetric around zero when `diverging` or when there are negative values, otherwise from zero. Several
    /// statistics give the widest of their ranges.
    pub fn resolve<'a>(&self, stats: impl IntoIterator<Item = &'a Stats>, diverging: bool) -> ValueRange {
        let (mut limit, mut largest, mut negative) = (0_f32, 0_f32, diverging);
        for stats in stats {
            largest = largest.max(stats.magnitude());
            negative |= stats.min < 0.0;
            limit = limit.max(match self.limit {
                Limit::Full => stats.magnitude(),
                Limit::Percentile(percent) => stats.percentile(percent),
                Limit::Manual(value) => value.abs(),
            });
        }
        if limit <= 0.0 || !limit.is_finite() {
            // Mostly zeros: what is not zero shows; nothing but zeros: any range will do.
            limit = if largest > 0.0 { largest } else { 1.0 };
        }
        ValueRange {
            low: if negative { -limit } else { 0.0 },
            high: limit,
            scale: self.scale,
            clipped: largest > limit,
        }
    }

    /// A row of controls. `shown` is the range in use, `several` whether there are linked pictures to share it. `changed()` of the response
    /// tells when something was chosen.
    pub fn ui(&mut self, ui: &mut Ui, shown: &ValueRange, several: bool) -> Response {
        let before = *self;
        // From left to right wherever it stands, as wide as it was when it was last drawn.
        let id = ui.scope_id().with("range control");
        let width = ui.data(|d| d.get_temp(id)).unwrap_or(320.0);
        let size = vec2(width, ui.spacing().interact_size.y);
        let mut response = ui
            .allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
                ui.selectable_value(&mut self.scale, Scale::Linear, "Linear")
                    .on_hover_text("Colours proportional to the values.");
                ui.selectable_value(&mut self.scale, Scale::SymmetricLog, "Log").on_hover_text(
                    "Symmetric log: sign(x) · log(1 + |x| / t), t = limit / 1000.\nShows small values beside large ones.",
                );
                ui.separator();
                self.limit_ui(ui, shown);
                if several {
                    ui.separator();
                    ui.checkbox(&mut self.shared, "Same range")
                        .on_hover_text("One range for all linked pictures: equal colours are equal values.");
                }
            })
            .response;
        if (response.rect.width() - width).abs() > 0.5 {
            ui.data_mut(|d| d.insert_temp(id, response.rect.width()));
            ui.ctx().request_repaint();
        }
        if before != *self {
            response.mark_changed();
        }
        response
    }

    fn limit_ui(&mut self, ui: &mut Ui, shown: &ValueRange) {
        let combo =
            ComboBox::from_id_salt("range limit").selected_text(self.limit.name()).width(84.0).show_ui(ui, |ui| {
                for limit in [Limit::Full, Limit::Percentile(99.9), Limit::Percentile(99.0)] {
                    ui.selectable_value(&mut self.limit, limit, limit.name());
                }
                let manual = matches!(self.limit, Limit::Manual(_));
                if ui.selectable_label(manual, "Manual").clicked() && !manual {
                    self.limit = Limit::Manual(shown.high);
                }
            });
        combo.response.accessible_name("Colour limit").on_hover_text(
            "The value of the last colour: the largest magnitude, one that 99.9 % or 99 % of the cells do not exceed, or one you type.",
        );
        if let Limit::Manual(value) = &mut self.limit {
            let speed = (f64::from(*value) * 0.01).max(1e-9);
            let drag = DragValue::new(value)
                .speed(speed)
                .range(f32::MIN_POSITIVE..=f32::MAX)
                .custom_formatter(|x, _| number::short(x, 3))
                .custom_parser(|text| text.replace('−', "-").trim().parse().ok());
            ui.add(drag).accessible_name("Largest value");
        }
    }
}

impl Limit {
    /// The words in the list.
    fn name(self) -> String {
        match self {
            Self::Full => "Full range".into(),
            Self::Percentile(percent) => format!("{percent} %"),
            Self::Manual(_) => "Manual".into(),
        }
    }
}

impl ValueRange {
    /// Where a value lies on the colour map, 0…1 between the ends; exact, for legends.
    pub fn position(&self, value: f64) -> f64 {
        let (low, high) = (self.spread(f64::from(self.low)), self.spread(f64::from(self.high)));
        (self.spread(value) - low) / (high - low)
    }

    /// The value at a position: the inverse of [`position`](Self::position).
    pub fn value(&self, position: f64) -> f64 {
        let (low, high) = (self.spread(f64::from(self.low)), self.spread(f64::from(self.high)));
        let spread = low + (high - low) * position;
        match self.scale {
            Scale::Linear => spread,
            Scale::SymmetricLog => spread.signum() * (spread.abs().exp_m1()) * self.threshold(),
        }
    }

    /// `t` of the symmetric log scale.
    pub fn threshold(&self) -> f64 {
        f64::from(LINEAR_SHARE) * f64::from(self.high.abs().max(self.low.abs()))
    }

    fn spread(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::SymmetricLog => value.signum() * (value.abs() / self.threshold()).ln_1p(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_statistics() {
        let values: Vec<f32> = (0..=1000).map(|x| x as f32 - 400.0).collect();
        let stats = Stats::of(&values);
        let mut control = RangeControl { limit: Limit::Full, ..RangeControl::default() };
        let full = control.resolve([&stats], true);
        assert_eq!((full.low, full.high, full.clipped), (-600.0, 600.0, false));
        control.limit = Limit::Percentile(99.0);
        let most = control.resolve([&stats], true);
        assert!(most.high < 600.0 && most.high > 500.0 && most.clipped);
        control.limit = Limit::Manual(-2.5);
        assert_eq!(control.resolve([&stats], true).high, 2.5);
        // Without negative values a sequential map starts at zero.
        let positive = Stats::of(&[1.0, 5.0]);
        control.limit = Limit::Full;
        assert_eq!(control.resolve([&positive], false).low, 0.0);
        // Shared: the widest.
        assert_eq!(control.resolve([&positive, &stats], true).high, 600.0);
    }

    #[test]
    fn zeros_still_have_a_range() {
        let range = RangeControl::default().resolve([&Stats::of(&[0.0; 9])], true);
        assert_eq!((range.low, range.high), (-1.0, 1.0));
        // One cell in ten thousand: the percentile is zero, the cell is still seen.
        let mut values = vec![0.0; 10_000];
        values[7] = 3.0;
        assert_eq!(RangeControl::default().resolve([&Stats::of(&values)], true).high, 3.0);
    }

    #[test]
    fn positions_and_values_are_inverse() {
        for scale in [Scale::Linear, Scale::SymmetricLog] {
            let range = ValueRange { low: -2.0, high: 2.0, scale, clipped: false };
            assert_eq!(range.position(0.0), 0.5);
            assert!((range.position(2.0) - 1.0).abs() < 1e-12);
            for x in [-1.9, -0.01, 1e-5, 0.7] {
                assert!((range.value(range.position(x)) - x).abs() < 1e-9, "{x}");
            }
        }
        let log = ValueRange { low: -2.0, high: 2.0, scale: Scale::SymmetricLog, clipped: false };
        assert!(log.position(0.02) > 0.65, "a hundredth of the limit is well visible");
    }
}
