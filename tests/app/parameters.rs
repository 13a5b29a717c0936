//! The Parameters tab.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use crate::support::*;

/// The texts in the line of the table that belongs to a rank.
fn line(window: &Window, r: usize) -> Vec<String> {
    let row = get(window, Role::Button, &format!("Counts at rank {r}")).rect();
    let labels = window
        .get_all_by_role(Role::Label)
        .filter(|n| n.rect().right() > row.left() && row.y_range().contains(n.rect().center().y));
    let mut cells: Vec<_> = labels.map(|n| (n.rect().left(), n.value().unwrap_or_default())).collect();
    cells.sort_by(|a, b| a.0.total_cmp(&b.0));
    cells.into_iter().map(|cell| cell.1).collect()
}

#[test]
fn the_open_model_is_counted() {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    assert!(says(&window, "127,296 parameters in all"), "sum(p.numel()) in torch: tests/fixtures/expected.json");
    // r · (in + out): q, v 448 r, with k and o 896 r, with gate, up, down 2240 r.
    let cells = line(&window, 8);
    for count in ["3.58K", "7.17K", "17.9K"] {
        assert!(cells.contains(&count.to_owned()), "{count} is not in {cells:?}");
    }
    assert_eq!(line(&window, 256).iter().filter(|t| *t == "–").count(), 3, "no matrix has rank 256");
    click(&mut window, Role::Button, "Counts at rank 16");
    assert_eq!(rank(&window), 16, "a line of the table turns the dial");
    assert!(says(&window, "llama, LoRA r = 16 on attention q, v: 7,168 parameters"));
}

/// LoRA paper (arXiv 2106.09685), table 4 and section 4.2: 175,255.8M and 4.7M, 37.7M at r = 8; its formula 2 · L · d · r · 2 exactly.
#[test]
fn gpt3_is_counted_as_in_the_paper() {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    assert!(says(&window, "trains 4,718,592:"));
    assert!(says(&window, "LoRA r = 1 on attention q, v: 4,718,592 parameters"));
    assert!(says(&window, "LoRA r = 8 on attention q, v: 37,748,736 parameters"));
    click(&mut window, Role::ComboBox, "Model to count");
    let title = window
        .get_all_by_role(Role::Button)
        .filter_map(|n| n.accesskit_node().label())
        .find(|l| l.starts_with("GPT-3"));
    click(&mut window, Role::Button, &title.unwrap());
    settle(&mut window);
    for (r, counts) in
        [(1, ["4.72M", "9.44M", "21.2M"]), (8, ["37.7M", "75.5M", "170M"]), (256, ["1.21B", "2.42B", "5.44B"])]
    {
        let cells = line(&window, r);
        assert!(counts.iter().all(|count| cells.contains(&(*count).to_owned())), "{r}: {cells:?}");
    }
    // Exactly, at rest on a number.
    window.get_by_role_and_label(Role::Label, "4.72M").hover();
    until(&mut window, "the tooltip", |w| says(w, "4,718,592 trainable parameters, 9.44 MB in 16 bit"));
    window.remove_cursor();
    // The table of a model that is not open turns no dial.
    click(&mut window, Role::Button, "Counts at rank 16");
    assert_eq!(rank(&window), 8);
}

#[test]
fn every_published_model_can_be_chosen() {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    for preset in rankscope::plan::presets() {
        // Choosing through the accessibility tree leaves the list open.
        if window.query_by_role_and_label(Role::Button, preset.title).is_none() {
            click(&mut window, Role::ComboBox, "Model to count");
        }
        get(&window, Role::Button, preset.title).click_accesskit();
        window.step();
        window.step();
        window.step();
        let all = rankscope::units::exact(preset.layout().parameters);
        assert!(says(&window, &format!("{all} parameters in all")), "{}", preset.title);
    }
}
