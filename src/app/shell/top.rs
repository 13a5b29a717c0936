//! The top bar: what is open, where ΔW comes from, the device, what can be done.

use std::path::Path;

use eframe::egui::{self, Align, Layout, RichText, Ui};

use crate::app::effect::Effect;
use crate::app::look::{glossary, theme::Colors};
use crate::app::view::View;
use crate::app::widgets::text::middle;
use crate::app::work::dialog::Question;
use crate::delta::Source;
use crate::units;
use crate::workspace::{Beside, Request};

use super::commands::{self, Now};

/// In a narrower window (or at a larger scale) the bar names what is open and leaves the facts to tooltips.
const FACTS: f32 = 900.0;
/// In one still narrower the captions go too.
const CAPTIONS: f32 = 700.0;

/// Paints the bar.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let width = ui.available_width();
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.label(RichText::new("Rankscope").text_style(egui::TextStyle::Heading));
        ui.add_space(6.0);
        model(ui, view, width);
        source(ui, view, width);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| right(ui, view, width));
    });
}

fn model(ui: &mut Ui, view: &mut View<'_>, width: f32) {
    let text = match view.workspace.base() {
        Some(base) => format!("{}  ▾", middle(&base.name(), letters(width))),
        None => "Open a model  ▾".into(),
    };
    if width >= CAPTIONS {
        caption(ui, "Model");
    }
    let button = ui.menu_button(text, |ui| menu(ui, view)).response;
    let name = view.workspace.base().map(|base| base.name());
    button.widget_info(|| egui::WidgetInfo {
        current_text_value: name.clone(),
        ..egui::WidgetInfo::labeled(egui::Role::Button, true, "Base model")
    });
    let full = name.unwrap_or_default();
    let button = button.on_hover_text(format!("{full}\nThe base model: open another one (Ctrl+O)"));
    if let Some(base) = view.workspace.base().filter(|_| width >= FACTS) {
        let dtypes: Vec<String> = base.dtypes().keys().map(ToString::to_string).collect();
        let facts = [
            base.architecture().unwrap_or("unknown architecture").to_owned(),
            format!("{} parameters", units::count(base.parameters())),
            dtypes.join(", "),
        ];
        let room = ui.available_width() > 760.0;
        let text =
            if room { facts.join(" · ") } else { format!("{} · {}", units::count(base.parameters()), facts[2]) };
        ui.label(RichText::new(text).small().color(Colors::of(ui).weak)).on_hover_text(format!(
            "{}\n{}\n{} parameters, {} in {}",
            base.path().display(),
            facts[0],
            units::exact(base.parameters()),
            units::bytes(base.bytes()),
            base.format()
        ));
    }
    let _ = button;
}

fn menu(ui: &mut Ui, view: &mut View<'_>) {
    ui.set_min_width(300.0);
    let now = Now { workspace: view.workspace, settings: view.settings };
    for command in
        [commands::OPEN_FOLDER, commands::OPEN_FILE, commands::OPEN_PATH, commands::GET, commands::OPEN_SAMPLE]
    {
        let keys = command.keys.first().map(|keys| ui.ctx().format_shortcut(keys)).unwrap_or_default();
        if ui.add(egui::Button::new(command.title).shortcut_text(keys)).clicked() {
            (command.act)(now).into_iter().for_each(|effect| view.effects.push(effect));
            ui.close();
        }
    }
    if !view.settings.recent.is_empty() {
        ui.separator();
        ui.label(RichText::new("Recent").small().color(Colors::of(ui).weak));
        for recent in &view.settings.recent {
            if ui.button(recent.title()).on_hover_text(recent.base.display().to_string()).clicked() {
                view.effects.push(Effect::Open(recent.request()));
                ui.close();
            }
        }
        if ui.button(RichText::new(commands::FORGET_RECENT.title).color(Colors::of(ui).weak)).clicked() {
            view.effects.push(Effect::ForgetRecent);
            ui.close();
        }
    }
    if !view.system.hub.is_empty() {
        ui.separator();
        ui.menu_button("From the hub's cache", |ui| {
            egui::ScrollArea::vertical().max_height(400.0).show(ui, |ui| {
                for entry in &view.system.hub {
                    if ui.button(&entry.name).on_hover_text(entry.path.display().to_string()).clicked() {
                        view.effects.open(entry.path.clone());
                        ui.close();
                    }
                }
            });
        });
    }
}

fn source(ui: &mut Ui, view: &mut View<'_>, width: f32) {
    let Some(delta) = view.workspace.delta() else { return };
    if width >= CAPTIONS {
        caption(ui, "ΔW");
    }
    let text = match delta.source() {
        Source::Weight => "the weights themselves".to_owned(),
        Source::Tuned(tuned) => of_run(view, tuned.path()).unwrap_or_else(|| tuned.name()),
        Source::Adapter(adapter) => of_run(view, adapter.path()).unwrap_or_else(|| adapter.name()),
    };
    let current = delta.source();
    let response = ui
        .menu_button(format!("{}  ▾", middle(&text, letters(width))), |ui| {
            ui.set_min_width(260.0);
            if ui.button("Tuned model…").on_hover_text("ΔW = tuned − base").clicked() {
                view.effects.push(Effect::Ask(Question::TunedFolder));
                ui.close();
            }
            if ui.button("Adapter…").on_hover_text("ΔW = s · B A").clicked() {
                view.effects.push(Effect::Ask(Question::AdapterFolder));
                ui.close();
            }
            let weight = matches!(current, Source::Weight);
            if ui.add_enabled(!weight, egui::Button::new("The weights themselves")).clicked() {
                view.effects.push(Effect::Open(Request::Weight));
                ui.close();
            }
            let beside = &view.board.beside;
            if !beside.is_empty() {
                ui.separator();
                ui.label(RichText::new("Beside the base").small().color(Colors::of(ui).weak));
                for found in beside.iter() {
                    let tip = if matches!(found, Beside::Adapter(_)) { "An adapter" } else { "A tuned version" };
                    if ui.button(middle(&found.name(), 40)).on_hover_text(tip).clicked() {
                        view.effects.push(Effect::Open(found.request()));
                        ui.close();
                    }
                }
            }
            ui.separator();
            ui.label(RichText::new("Bundled sample").small().color(Colors::of(ui).weak));
            if ui.button("Base and tuned model").clicked() {
                view.effects.push(Effect::OpenSample);
                ui.close();
            }
        })
        .response;
    response.widget_info(|| egui::WidgetInfo {
        current_text_value: Some(text.clone()),
        ..egui::WidgetInfo::labeled(egui::Role::Button, true, "Source of ΔW")
    });
    response.on_hover_ui(|ui| {
        ui.label(RichText::new(&text).strong());
        glossary::DELTA.ui(ui);
    });
}

/// The name of the run that a result is of: the folders of a sweep's runs are called by their ranks alone.
fn of_run(view: &View<'_>, path: &Path) -> Option<String> {
    let run = view.board.runs.as_ref()?.iter().find(|past| path.starts_with(&past.folder))?;
    Some(run.name())
}

fn right(ui: &mut Ui, view: &mut View<'_>, width: f32) {
    let dark = ui.visuals().dark_mode;
    let (theme, name) = match dark {
        true => (egui::ThemePreference::Light, "Light theme"),
        false => (egui::ThemePreference::Dark, "Dark theme"),
    };
    if icon_button(ui, "◐", name).clicked() {
        view.effects.push(Effect::Theme(theme));
    }
    if icon_button(ui, "?", "Help (F1)").clicked() {
        view.effects.push(Effect::ToggleHelp);
    }
    if icon_button(ui, if width < FACTS { "Search" } else { "Search  Ctrl K" }, "Commands (Ctrl+K)").clicked() {
        view.effects.push(Effect::TogglePalette);
    }
    if width < FACTS {
        return;
    }
    ui.add_space(4.0);
    ui.label(RichText::new(view.system.device.as_str()).small().color(Colors::of(ui).weak))
        .on_hover_text(view.system.devices.as_str());
}

fn icon_button(ui: &mut Ui, icon: &str, name: &str) -> egui::Response {
    let response = ui.add(egui::Button::new(icon).frame_when_inactive(false).min_size(egui::vec2(26.0, 24.0)));
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, name));
    response.on_hover_text(name)
}

/// Letters of a model's name in a bar of this width.
fn letters(width: f32) -> usize {
    if width >= 1600.0 {
        40
    } else if width >= FACTS {
        26
    } else {
        16
    }
}

fn caption(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).small().color(Colors::of(ui).weak));
}
