//! The question of the very first start: what a person came for.

use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{self, Button, Id, Modal, RichText, Ui, vec2};

use crate::app::effect::{Effect, Place};
use crate::app::look::theme::Colors;
use crate::app::tabs::Tab;
use crate::app::view::View;

use super::commands::{self, Now};

/// What one can have come for: a title, what it is, where it begins.
const DOORS: [(&str, &str, Place); 3] = [
    (
        "Learn LoRA in nine steps",
        "What rank is, what it costs, what it keeps: small pictures that you can change.",
        Place::tab("learn"),
    ),
    (
        "Choose a rank",
        "Rank, learning rate and modules for your model and data, with the reasons.",
        Place::part("parameters", "ranks"),
    ),
    (
        "Tune a model",
        "A run on your own data, or on the bundled ones, that you can watch.",
        Place::part("train", "data"),
    ),
];
const GET: (&str, &str) = ("Get a model", "owner/name on the Hugging Face hub, into the hub's own cache.");
const LOOK: (&str, &str) = ("Look at a model", "Open your own base model, tuned model or adapter.");

/// Paints the question; true once it is answered or closed.
pub fn ui(ui: &Ui, view: &mut View<'_>, tabs: &[Box<dyn Tab>]) -> bool {
    // Where there is a tab for the choice of a rank, that is the place.
    let choose = Place::tab("choose");
    let chooses = tabs.iter().any(|tab| tab.id() == choose.tab);
    let response = Modal::new(Id::unique("welcome")).show(ui.ctx(), |ui| {
        ui.set_width(440.0);
        ui.label(RichText::new("What brings you here?").text_style(egui::TextStyle::Heading));
        ui.label(RichText::new("This is asked once. Every way leads to all the others.").color(Colors::of(ui).weak));
        ui.add_space(10.0);
        let mut chosen = None;
        let door = |ui: &mut Ui, title: &str, about: &str| {
            // One thing to click on: the title and what is behind it.
            let mut text = LayoutJob::default();
            let body = egui::TextStyle::Heading.resolve(ui.style());
            let small = egui::TextStyle::Body.resolve(ui.style());
            let line = |font, color| TextFormat { font_id: font, color, ..TextFormat::default() };
            text.append(title, 0.0, line(body, ui.visuals().text_color()));
            text.append(&format!("\n{about}"), 0.0, line(small, Colors::of(ui).weak));
            text.wrap.max_width = ui.available_width() - 24.0;
            let button = Button::new(text).min_size(vec2(ui.available_width(), 56.0));
            let clicked = ui.add(button).accessible_name(title).clicked();
            ui.add_space(2.0);
            clicked
        };
        for (title, about, place) in DOORS {
            if door(ui, title, about) {
                let instead = chooses && title == DOORS[1].0;
                chosen = Some(Effect::Show(if instead { choose } else { place }));
            }
        }
        if door(ui, LOOK.0, LOOK.1) {
            chosen = (commands::OPEN_FOLDER.act)(Now { workspace: view.workspace, settings: view.settings });
        }
        if door(ui, GET.0, GET.1) {
            chosen = Some(Effect::AskHub);
        }
        let skip = ui.button("Just show me the sample").clicked();
        (chosen, skip)
    });
    let (chosen, skip) = response.inner.clone();
    let done = chosen.is_some() || skip || response.should_close();
    if let Some(effect) = chosen {
        view.effects.push(effect);
    }
    done
}
