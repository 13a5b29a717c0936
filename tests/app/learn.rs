//! The Learn tab: each chapter's goal, reached by name and by keyboard.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use crate::support::*;

/// The window with a chapter of the Learn tab open.
fn chapter(number: usize) -> Window {
    let mut window = llama();
    learn(&mut window, number);
    window
}

/// Turns to a chapter from another tab.
fn learn(window: &mut Window, number: usize) {
    press(window, Modifiers::COMMAND, Key::Num1);
    turn_to(window, number);
}

/// Opens a chapter from the list.
fn turn_to(window: &mut Window, number: usize) {
    let start = format!("Chapter {number}: ");
    let buttons = window.get_all_by_role(Role::Button);
    let name = buttons.filter_map(|n| n.accesskit_node().label()).find(|label| label.starts_with(&start));
    click(window, Role::Button, &name.expect(&start));
    settle(window);
}

/// Sets a number field as a screen reader would.
#[track_caller]
fn set(window: &mut Window, name: &str, value: f64) {
    get(window, Role::SpinButton, name).set_value_accesskit(value);
    window.step();
    window.step();
}

/// The list says that a chapter is done.
fn is_done(window: &Window, number: usize) -> bool {
    let start = format!("Chapter {number}: ");
    texts(window).iter().any(|text| text.starts_with(&start) && text.ends_with(", done"))
}

#[test]
fn chapters_follow_each_other_and_lead_to_the_real_thing() {
    let mut window = chapter(1);
    for number in 2..=9 {
        click(&mut window, Role::Button, "Next chapter");
        settle(&mut window);
        let open = window.get_all_by_role(Role::Button).any(|n| {
            let node = n.accesskit_node();
            node.label().is_some_and(|l| l.starts_with(&format!("Chapter {number}: ")))
                && node.toggled() == Some(eframe::egui::accesskit::Toggled::True)
        });
        assert!(open, "chapter {number} is open");
        assert!(says(&window, "Try it"), "chapter {number} has a goal");
    }
    assert!(window.query_by_role_and_label(Role::Button, "Next chapter").is_none(), "there are nine");
    click(&mut window, Role::Button, "Previous chapter");
    turn_to(&mut window, 3);
    click(&mut window, Role::Link, "See ΔW of the open model: Spectrum tab");
    settle(&mut window);
    assert!(says(&window, "Heatmap ΔW"));
}

#[test]
fn formulas_and_sources_are_behind_a_fold() {
    let mut window = chapter(4);
    assert!(!says(&window, "arXiv 2106.09685"));
    window.get_all_by_label("Formula and source").next().unwrap().click();
    window.step();
    window.step();
    assert!(says(&window, "arXiv 2106.09685"));
}

#[test]
fn chapter_1_twenty_versions_on_one_disk() {
    let mut window = chapter(1);
    // LLaMA 7B: 6,738,415,616 parameters (sum(p.numel()) of huggyllama/llama-7b), two bytes each.
    assert!(says(&window, "0 bytes for the base, 3 times 13.5 GB, 40.4 GB in all"), "{:?}", texts(&window));
    click(&mut window, Role::Button, "a task");
    assert!(says(&window, "3 versions take 40.4 GB: too much for 40 GB."), "the data do not change it");
    click(&mut window, Role::Button, "an adapter, r = 8");
    assert!(says(&window, "19,988,480 of 6,738,415,616 numbers move"));
    assert!(!is_done(&window, 1));
    get(&window, Role::Slider, "Tuned versions").set_value_accesskit(20.0);
    window.step();
    window.step();
    assert!(says(&window, "20 versions take 14.3 GB: that fits 40 GB.") && is_done(&window, 1));
}

#[test]
fn chapter_3_the_change_answers_as_wished() {
    let mut window = chapter(3);
    assert!(says(&window, "Now W x is (3, 4, 3)."));
    set(&mut window, "ΔW row 1 column 2", 3.0);
    assert!(says(&window, "W row 1 column 2: 3") || number(&window, Role::SpinButton, "W row 1 column 2") == 3.0);
    assert!(!is_done(&window, 3));
    // The other way round: W is edited and ΔW follows.
    set(&mut window, "W row 3 column 3", 0.0);
    assert_eq!(number(&window, Role::SpinButton, "ΔW row 3 column 3"), -2.0);
    assert!(says(&window, "Now W x is (6, 4, 1)."));
    assert!(is_done(&window, 3) && says(&window, "Done") && says(&window, "1 of 9 done"));
    // What is done stays done.
    click(&mut window, Role::Button, "Start over");
    assert!(says(&window, "Now W x is (3, 4, 3).") && is_done(&window, 3));
}

#[test]
fn chapter_3_takes_numbers_that_are_no_sums_of_powers_of_two() {
    let mut window = chapter(3);
    // 2 + (−1.7) is 0.30000000000000004 to a computer.
    set(&mut window, "ΔW row 3 column 3", -1.7);
    assert_eq!(number(&window, Role::SpinButton, "ΔW row 3 column 3"), -1.7);
    settle(&mut window);
    window.run_steps(5);
    assert!(!delay(&window).is_zero(), "nothing is edited by itself");
    set(&mut window, "ΔW row 1 column 1", 1.0);
    assert_eq!(number(&window, Role::SpinButton, "ΔW row 1 column 1"), 1.0, "other cells still take numbers");
    click(&mut window, Role::Button, "Start over");
    assert_eq!(number(&window, Role::SpinButton, "ΔW row 3 column 3"), 0.0);
}

#[test]
fn what_was_reached_before_is_told_apart_from_what_stands_there() {
    let mut window = chapter(3);
    set(&mut window, "ΔW row 1 column 2", 3.0);
    set(&mut window, "W row 3 column 3", 0.0);
    assert!(says(&window, "Done") && !says(&window, "Done before"));
    click(&mut window, Role::Button, "Start over");
    assert!(says(&window, "Done before; try it again") && is_done(&window, 3));
}

#[test]
fn a_wrong_guess_is_counted_with_the_others() {
    let mut window = chapter(6);
    get(&window, Role::Slider, "Your rank").set_value_accesskit(1.0);
    window.step();
    click(&mut window, Role::Button, "That is my guess");
    let said = texts(&window).into_iter().find(|t| t.starts_with("You said 1;")).expect("a wrong guess");
    assert!(said.ends_with("0 of 1 guesses were exact."), "{said}");
}

#[test]
fn a_chapter_begins_with_its_formulas_closed() {
    let mut window = chapter(4);
    window.get_all_by_label("Formula and source").next().unwrap().click();
    window.step();
    window.step();
    assert!(says(&window, "arXiv 2106.09685"));
    turn_to(&mut window, 5);
    turn_to(&mut window, 4);
    assert!(!says(&window, "arXiv 2106.09685"));
}

#[test]
fn the_memory_of_a_full_tuning_is_tight_where_activations_have_no_room() {
    let mut window = chapter(2);
    click(&mut window, Role::Button, "7B");
    assert!(says(&window, "full: 80.9 GB, tight on one GPU of 80 GB: activations come on top"), "{:?}", texts(&window));
    assert!(says(&window, "LoRA: ") && says(&window, "fits one GPU of 80 GB; weights"));
}

#[test]
fn the_dial_says_that_chapters_have_ranks_of_their_own() {
    let mut window = chapter(6);
    assert!(says(&window, "not used in this tab"));
    press(&mut window, Modifiers::COMMAND, Key::Num3);
    settle(&mut window);
    assert!(!says(&window, "not used in this tab"));
}

#[test]
fn cells_take_keys() {
    let mut window = chapter(3);
    get(&window, Role::SpinButton, "ΔW row 2 column 2").focus();
    window.step();
    window.step();
    press(&mut window, Modifiers::COMMAND, Key::A);
    window.event(eframe::egui::Event::Text("-1.5".into()));
    window.step();
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(says(&window, "ΔW x 2: −1.5"), "{:?}", texts(&window));
    assert!(says(&window, "W x 2: 2.5"));
}

#[test]
fn chapter_4_one_wish_is_said_and_the_other_only_nearly() {
    let mut window = chapter(4);
    for (name, value) in [("B 1", 2.0), ("B 2", 1.0), ("B 3", 3.0), ("A 1", 1.0), ("A 2", 2.0), ("A 3", -1.0)] {
        set(&mut window, name, value);
    }
    assert!(says(&window, "ΔW row 3 column 2: 6"));
    assert!(says(&window, "First target: done. Second target: not yet."));
    click(&mut window, Role::Button, "rank 3");
    // Eckart and Young: √(2² + 2²).
    assert!(says(&window, "no rank-1 matrix comes closer than √(σ₂² + σ₃²) = 2.83"));
    for (name, value) in [("B 1", 2.0), ("B 2", 0.0), ("B 3", 0.0), ("A 1", 1.0), ("A 2", 0.0), ("A 3", 0.0)] {
        set(&mut window, name, value);
    }
    assert!(says(&window, "Both done.") && is_done(&window, 4));
}

#[test]
fn chapter_5_one_number_takes_a_rank_away() {
    let mut window = chapter(5);
    assert!(says(&window, "rank 3"));
    set(&mut window, "M row 3 column 3", 9.001);
    assert!(says(&window, "rank 3"), "a thousandth is enough");
    set(&mut window, "M row 3 column 3", 9.0);
    assert!(says(&window, "rank 2") && is_done(&window, 5));
    // Step by step to the end, with the numbers.
    for _ in 0..3 {
        click(&mut window, Role::Button, "Step on");
    }
    assert!(says(&window, "row 3 ← row 3 − (2) · row 2"), "{:?}", texts(&window));
    assert!(says(&window, "after row 3 column 3: 0") && says(&window, "2 pivots, so the rank is 2."));
    click(&mut window, Role::Button, "Singular values");
    assert!(says(&window, "MᵗM row 1 column 1: 66"));
    click(&mut window, Role::Button, "Step on");
    // numpy: np.poly(m.T @ m) = [1, −285, 324, 0].
    assert!(says(&window, "λ³ − 285 λ² + 324 λ = 0"), "{:?}", texts(&window));
    click(&mut window, Role::Button, "Step on");
    // numpy.linalg.svd: 16.848, 1.0684, 4e-16.
    assert!(says(&window, "16.85") && says(&window, "1.068") && says(&window, "2 of 3 above"));
}

#[test]
fn chapter_6_three_exact_guesses() {
    // One window to see what was planted, a second one to know it.
    let mut window = chapter(6);
    let mut planted = Vec::new();
    for _ in 0..3 {
        click(&mut window, Role::Button, "That is my guess");
        let text = texts(&window).into_iter().find(|t| t.starts_with("You said") || t.starts_with("Exactly")).unwrap();
        let digits = text.split("rank is ").nth(1).unwrap().split('.').next().unwrap();
        planted.push(digits.parse::<f64>().unwrap());
        click(&mut window, Role::Button, "Next matrix");
    }
    let mut window = chapter(6);
    for (round, rank) in planted.into_iter().enumerate() {
        assert!(!says(&window, "You said") && !says(&window, "Exactly"), "nothing is told before the guess");
        get(&window, Role::Slider, "Your rank").set_value_accesskit(rank);
        window.step();
        window.step();
        click(&mut window, Role::Button, "That is my guess");
        assert!(
            says(&window, &format!("Exactly: the planted rank is {rank}. {0} of {0} guesses were exact.", round + 1)),
            "{:?}",
            texts(&window)
        );
        if round < 2 {
            click(&mut window, Role::Button, "Next matrix");
        }
    }
    assert!(is_done(&window, 6));
    // The rules are scored beside: on a clear signal the optimal threshold is exact too.
    assert!(says(&window, "Gavish–Donoho") && texts(&window).iter().filter(|t| *t == "3 of 3").count() >= 2);
}

#[test]
fn chapter_7_two_ways_to_the_papers_number() {
    let mut window = chapter(7);
    assert!(says(&window, "37,748,736"), "r = 8 on q and v is not 4.7M");
    click(&mut window, Role::Button, "Rank 1");
    assert!(says(&window, "4,718,592") && says(&window, "Found: 2 matrices at r = 1."));
    click(&mut window, Role::Button, "Adapt q");
    click(&mut window, Role::Button, "Rank 2");
    assert!(says(&window, "Found: 2 matrices at r = 1; 1 matrix at r = 2.") && is_done(&window, 7));
    click(&mut window, Role::Button, "Adapt v");
    assert!(says(&window, "choose at least one matrix."));
}

#[test]
fn chapter_2_the_largest_model_that_one_gpu_tunes() {
    let mut window = chapter(2);
    click(&mut window, Role::Button, "175B");
    assert!(says(&window, "takes") && says(&window, "GPUs of 80 GB") && !is_done(&window, 2));
    click(&mut window, Role::Button, "7B");
    assert!(says(&window, "12 bytes for each") && is_done(&window, 2), "{:?}", texts(&window));
    assert!(says(&window, "QLoRA: ") && says(&window, "fits one GPU of 80 GB"));
}

#[test]
fn chapter_8_even_spacing_suits_int4() {
    let mut window = chapter(8);
    assert!(!is_done(&window, 8) && says(&window, "NF4: 16 levels") && says(&window, "FP4: 15 levels"));
    for i in 0..8 {
        let value = (2.0 * f64::from(i) - 7.0) / 7.0;
        get(&window, Role::Slider, &format!("Weight {}", i + 1)).set_value_accesskit(value);
        window.step();
        window.step();
    }
    assert!(is_done(&window, 8), "{:?}", texts(&window));
    // By keyboard: one weight goes its way.
    get(&window, Role::Slider, "Weight 3").focus();
    window.step();
    let before = number(&window, Role::Slider, "Weight 3");
    press(&mut window, Modifiers::NONE, Key::ArrowRight);
    assert!((number(&window, Role::Slider, "Weight 3") - before - 0.02).abs() < 1e-6);
    // The other story and its cost.
    click(&mut window, Role::Button, "What QLoRA quantizes");
    until(&mut window, "a quantized layer", |w| says(w, "W₀ in 16 bit, A and B in INT4") || says(w, "as often told: "));
    let line = |start: &str| texts(&window).into_iter().find(|text| text.starts_with(start)).unwrap();
    assert!(line("QLoRA: ").ends_with("ΔW off by 0 %"), "{}", line("QLoRA: "));
    assert!(line("as often told: ").contains("W₀ off by 0 %"));
}

#[test]
fn chapter_9_three_ranks_to_their_end() {
    let mut window = open_with(builder().allow_missing_glyphs(), pair("llama", "llama-tuned"));
    settle(&mut window);
    learn(&mut window, 9);
    set(&mut window, "Steps of each run", 4.0);
    click(&mut window, Role::Button, "Run ranks 1, 8 and 64");
    until(&mut window, "the runs", |w| says(w, "Stop the runs"));
    assert!(!is_done(&window, 9));
    settle(&mut window);
    assert!(says(&window, "reached the lowest held-out loss") && !is_done(&window, 9), "{:?}", texts(&window));
    // The results are heard, too; the question stands below the plots, where a screen reader reaches it.
    get(&window, Role::Button, "Ask").click_accesskit();
    window.step();
    until(&mut window, "the answers", |w| is_done(w, 9) && says(w, "tokens/s"));
    settle(&mut window);
    // The largest one, cut down, beside the smallest.
    assert!(says(&window, "Cut to rank 1, the r = 64 adapter keeps "), "{:?}", texts(&window));
}
