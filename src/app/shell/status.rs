//! The status bar: what runs, how far, how long, Cancel; else the last message.

use eframe::egui::{self, Align, Layout, ProgressBar, RichText, Ui};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::view::View;
use crate::app::widgets::text::middle;
use crate::job::Running;
use crate::units;

/// Room that a job takes with its title, bar, button and time.
const JOB: f32 = 440.0;
/// Letters of a job's title.
const TITLE: usize = 48;

/// Paints the bar.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, running: &[&dyn Running]) {
    ui.horizontal(|ui| {
        let colors = Colors::of(ui);
        if running.is_empty() {
            let color = if view.message.bad { colors.bad } else { colors.weak };
            let room = ui.available_width() - 220.0;
            ui.scope(|ui| {
                ui.set_max_width(room.max(120.0));
                ui.add(egui::Label::new(RichText::new(view.message.text.as_str()).small().color(color)).truncate());
            });
        }
        // Two beside each other where there is room for them.
        let most = ((ui.available_width() - 160.0) / JOB).clamp(1.0, 2.0) as usize;
        for job in running.iter().take(most) {
            let status = job.status();
            ui.label(RichText::new(middle(job.title(), TITLE)).small()).on_hover_text(job.title());
            let bar = ProgressBar::new(status.fraction.unwrap_or(0.0)).desired_width(140.0).desired_height(8.0);
            ui.add(bar).widget_info(|| {
                let mut info = egui::WidgetInfo::labeled(egui::Role::ProgressIndicator, true, "Progress");
                info.value = status.fraction.map(f64::from);
                info
            });
            // Before the time, whose width changes: a button that is aimed at stays where it is.
            if ui.small_button("Cancel").clicked() {
                view.effects.push(Effect::Cancel(job.id()));
            }
            let time = match status.remaining {
                Some(left) => format!("{} left", units::duration_range(left)),
                None => units::duration(status.elapsed),
            };
            ui.label(RichText::new(time).small().color(colors.weak));
            ui.add_space(10.0);
        }
        if running.len() > most {
            ui.label(RichText::new(format!("{} more", running.len() - most)).small().color(colors.weak));
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let selection = view.workspace.selection().names().len();
            let modules = view.workspace.delta().map_or(0, |d| d.entries().len());
            if modules > 0 {
                let text = format!("{}/{modules} computed · {selection} selected", view.workspace.known());
                ui.label(RichText::new(text).small().color(colors.weak));
            }
        });
    });
}
