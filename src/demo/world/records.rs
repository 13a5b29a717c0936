//! Records: lists, roll-calls, cards, and who has what now.

use super::teller::{Person, Teller, a, list};
use super::words::{ANIMALS, COLORS, DAYS, FOODS, PLACES, ROLES, THINGS, TOWNS};

pub fn counting(t: &mut Teller) {
    let [who, friend] = t.people();
    let food = t.one(&FOODS);
    let (first, more) = (t.number(2, 30), t.number(1, 9));
    let after = first + more;
    let eaten = t.number(1, first.min(9));
    let left = after - eaten;
    t.say_one([
        format!("{} the {} had {first} {food}.", who.name, who.role),
        format!("There were {first} {food} in the basket of {}.", who.name),
    ]);
    t.say_one([
        format!("{} gave {} {more} more.", friend.name, who.them()),
        format!("{} the {} brought {} {more} more.", friend.name, friend.role, who.them()),
    ]);
    t.say_one([format!("Now {} had {after} {food}.", who.name), format!("Now there were {after} {food}.")]);
    t.say_one([
        format!("Then {} ate {eaten}, and {left} were left.", who.they()),
        format!("They ate {eaten} of them, so {left} were left."),
    ]);
    let questions = [
        (format!("How many {food} were left?"), format!("{left} {food} were left.")),
        (format!("Who gave {} the {food}?", who.name), format!("{} gave {} the {food}.", friend.name, who.name)),
    ];
    t.ask(&questions, 0.6);
}

pub fn shopping(t: &mut Teller) {
    let [who] = t.people();
    let (town, place) = (t.one(&TOWNS), t.one(&PLACES));
    let mut wanted = t.things(2).iter().map(|thing| a(thing)).collect::<Vec<_>>();
    for food in t.some(&FOODS, 2) {
        let count = t.number(2, 20);
        let at = t.number(0, wanted.len() as u32) as usize;
        wanted.insert(at, format!("{count} {food}"));
    }
    t.say_one([
        format!("{} the {} went to the market of {town} with a list.", who.name, who.role),
        format!("{} had a list for the market of {town}.", who.name),
    ]);
    t.say(format!("The list was: {}.", wanted.join(", ")));
    t.say_one([
        format!("{} bought {}.", who.name, list(&wanted)),
        format!("{} came home with {}.", who.begin(), list(&wanted)),
    ]);
    if t.chance(0.5) {
        let forgotten = t.number(0, 3) as usize;
        if let Some(forgotten) = wanted.get(forgotten) {
            t.say_one([
                format!("Then {} gave {forgotten} away.", who.they()),
                format!("At home {} put {forgotten} in the {place}.", who.they()),
            ]);
        }
    }
}

pub fn gifts(t: &mut Teller) {
    let [first, second, third] = t.people();
    let things = t.things(2);
    let kinds: Vec<&str> = things.iter().map(|thing| thing.rsplit(' ').next().unwrap_or_default()).collect();
    let place = t.one(&PLACES);
    t.say_one([
        format!("{} the {} had {} and {}.", first.name, first.role, a(&things[0]), a(&things[1])),
        format!("In the {place} {} found {} and {}.", first.name, a(&things[0]), a(&things[1])),
    ]);
    t.say_one([
        format!("{} gave the {} to {} and the {} to {}.", first.begin(), things[0], second.name, things[1], third.name),
        format!("{} gave {} the {}, and {} got the {}.", first.name, second.name, things[0], third.name, things[1]),
        format!(
            "{} got the {} from {}, and {} got the {}.",
            second.name,
            things[0],
            first.them(),
            third.name,
            things[1]
        ),
    ]);
    let (mut zero, mut one) = (&second, &third);
    if t.chance(0.4) {
        t.say_one([
            format!(
                "Then {} and {} changed: now {} had the {} and {} the {}.",
                second.name, third.name, third.name, things[0], second.name, things[1]
            ),
            format!(
                "But {} liked the {} more, so {} gave it to {} for the {}.",
                third.name,
                things[0],
                second.name,
                third.them(),
                kinds[1]
            ),
        ]);
        (zero, one) = (one, zero);
    } else if t.chance(0.7) {
        let glad = t.one(&["happy", "glad", "proud"]);
        t.say_one([
            format!("So {} had the {} and {} had the {}.", second.name, things[0], third.name, things[1]),
            format!("{} thanked {} for the {}.", second.name, first.them(), things[0]),
            format!("{} was very {glad}.", third.name),
        ]);
    }
    let questions = [
        (format!("Who has the {} now?", kinds[0]), format!("{} has the {}.", zero.name, kinds[0])),
        (format!("Who has the {} now?", kinds[1]), format!("{} has the {}.", one.name, kinds[1])),
    ];
    t.ask(&questions, 0.85);
}

/// Two people with a thing each, a question, the right name and the wrong one: a test of who has what.
pub fn gift_and_question(seed: u64, strangers: bool) -> (String, String, String) {
    let mut t = if strangers { Teller::of_strangers(seed) } else { Teller::new(seed) };
    let [first, second, third] = t.people();
    let things = t.things(2);
    let asked = t.number(0, 1) as usize;
    let kind = things[asked].rsplit(' ').next().unwrap_or_default().to_owned();
    let text = format!(
        "{} the {} had {} and {}. {} gave the {} to {} and the {} to {}. Who has the {kind} now?",
        first.name,
        first.role,
        a(&things[0]),
        a(&things[1]),
        first.begin(),
        things[0],
        second.name,
        things[1],
        third.name,
    );
    let (right, wrong) = if asked == 0 { (second, third) } else { (third, second) };
    (text, right.name, wrong.name)
}

/// Words in no order, told twice or three times: nothing but looking back helps.
pub fn echo(t: &mut Teller) {
    let count = t.number(3, 13);
    let words: Vec<String> = (0..count)
        .map(|_| match t.number(0, 8) {
            0 => t.people::<1>()[0].name.clone(),
            1 => t.one(&TOWNS).to_owned(),
            2 => t.number(2, 99).to_string(),
            3 => t.one(&FOODS).to_owned(),
            4 => t.one(&PLACES).to_owned(),
            5 => t.one(&COLORS).to_owned(),
            6 => t.one(&ROLES).to_owned(),
            7 => t.one(&THINGS).to_owned(),
            _ => t.one(&ANIMALS).to_owned(),
        })
        .collect();
    let said = words.join(t.one(&[" ", ", "]));
    let [first, second] = t.people();
    t.say_one([
        format!("\"{said},\" said {} the {}.", first.name, first.role),
        format!("{} said: {said}.", first.name),
        format!("{} wrote on the wall: {said}.", first.name),
    ]);
    t.say_one([
        format!("{} said it after {}: {said}.", second.name, first.them()),
        format!("\"{said},\" said {}.", second.name),
        format!("Then {} read: {said}.", second.name),
    ]);
    if t.chance(0.3) {
        t.say(format!("And once more: {said}."));
    }
}

/// Several people with a thing each, and short questions about all of them.
pub fn holdings(t: &mut Teller) {
    let people: [_; 4] = t.people();
    let count = t.number(2, 4) as usize;
    let things = t.things(count);
    let verb = t.one(&["has", "holds", "carries"]);
    for (person, thing) in people.iter().zip(&things) {
        t.say_one([
            format!("{} {verb} {}.", person.name, a(thing)),
            format!("{} the {} {verb} {}.", person.name, person.role, a(thing)),
            format!("The {thing} is with {}.", person.name),
        ]);
    }
    let order = t.some(&(0..count).collect::<Vec<_>>(), count);
    for at in order {
        let (Some(person), Some(thing)) = (people.get(at), things.get(at)) else { continue };
        let kind = thing.rsplit(' ').next().unwrap_or_default();
        t.say_one([
            format!("Who has the {kind}? {}.", person.name),
            format!("Who {verb} the {kind}? {} {verb} the {kind}.", person.name),
            format!("What has {}? The {thing}.", person.name),
            format!("Where is {}? With {}.", a(thing), person.name),
        ]);
    }
}

/// A register of names; some of them are looked up.
pub fn register(t: &mut Teller) {
    let people: [_; 4] = t.people();
    let count = t.number(1, 4) as usize;
    let lines: Vec<String> = people[..count]
        .iter()
        .map(|person| format!("{}: {} {} {}", person.name, t.one(&COLORS), t.one(&ANIMALS), t.number(2, 99)))
        .collect();
    for line in &lines {
        t.say(format!("{line}."));
    }
    let [reader] = t.people();
    let looked_up = t.number(1, 4) as usize;
    let order = t.some(&(0..count).collect::<Vec<_>>(), looked_up);
    t.say_one([
        format!("{} the {} read in the book.", reader.name, reader.role),
        format!("{} looked them up.", reader.name),
    ]);
    for line in order.into_iter().filter_map(|at| lines.get(at)) {
        t.say(format!("{line}."));
    }
}

/// Who gave what to whom, and where.
pub struct Gift {
    /// Who gave.
    pub giver: Person,
    /// Who got it.
    pub taker: Person,
    /// Colour and thing.
    pub thing: String,
    /// Where.
    pub town: &'static str,
}

/// Tells of a gift in one sentence.
pub fn gift(t: &mut Teller) -> Gift {
    let [giver, taker] = t.people();
    let (thing, town, day) = (t.thing(), t.one(&TOWNS), t.one(&DAYS));
    let (give, take, with) = (&giver.name, &taker.name, a(&thing));
    t.say_one([
        format!("{give} gave {take} {with} in {town}."),
        format!("In {town} {give} gave {with} to {take}."),
        format!("{take} got {with} from {give} in {town}."),
        format!("On {day} {give} the {} gave {take} {with} in {town}.", giver.role),
        format!("{give} came to {town} and gave {with} to {take} the {}.", taker.role),
        format!("In {town} {take} the {} got {with} from {give}.", taker.role),
    ]);
    Gift { giver, taker, thing, town }
}

/// A gift, and the same in other words: a note with its fields, or another sentence.
pub fn note(t: &mut Teller) {
    let Gift { giver, taker, thing, town } = gift(t);
    let (give, take, with) = (&giver.name, &taker.name, a(&thing));
    t.say_one([
        format!("Note: From {give}. For {take}. Gift: {thing}. Place: {town}."),
        format!("Note: For {take}. From {give}. Place: {town}. Gift: {thing}."),
        format!("Place: {town}. Gift: {thing}. Giver: {give}. Taker: {take}."),
        format!("In short, {give} gave {take} {with}."),
        format!("In short, {take} got {with} in {town}."),
    ]);
    let questions = [
        (format!("Who got the {thing}?"), format!("{take} got it.")),
        (format!("Who gave the {thing}?"), format!("{give} gave it.")),
        (format!("What did {take} get?"), format!("{take} got {with}.")),
        ("Where was it?".to_owned(), format!("It was in {town}.")),
    ];
    t.ask(&questions, 0.8);
}

pub fn roll_call(t: &mut Teller) {
    let people: [_; 5] = t.people();
    let count = t.number(3, 5) as usize;
    let names: Vec<String> = people[..count].iter().map(|person| person.name.clone()).collect();
    let (place, town, reader) = (t.one(&PLACES), t.one(&TOWNS), t.one(&["teacher", "guard", "clerk"]));
    let missing = t.number(0, count as u32 - 1) as usize;
    t.say_one([
        format!("There were {count} people in the {place} of {town}: {}.", list(&names)),
        format!("In the {place} of {town} were {}.", list(&names)),
    ]);
    t.say_one([
        format!("The {reader} read the names: {}.", names.join(", ")),
        format!("The names on the list were {}.", list(&names)),
    ]);
    t.say_one([
        format!("{} was not there.", names[missing]),
        format!("All {count} were there."),
        format!("{} came first and {} came last.", names[0], names[count - 1]),
    ]);
    if t.chance(0.5) {
        t.say(format!("Who was in the {place}? {}.", list(&names)));
    }
}

pub fn whereabouts(t: &mut Teller) {
    let people: [_; 3] = t.people();
    let places = t.some(&PLACES, 3);
    for (person, place) in people.iter().zip(&places) {
        t.say_one([
            format!("{} was in the {place}.", person.name),
            format!("{} the {} was in the {place}.", person.name, person.role),
            format!("{} went to the {place}.", person.name),
        ]);
    }
    let mut now = places.clone();
    if t.chance(0.4) {
        let moved = t.number(0, 2) as usize;
        let place = t.one(&PLACES);
        if !places.contains(&place) {
            now[moved] = place;
            t.say_one([
                format!("Then {} went to the {place}.", people[moved].name),
                format!("Later {} went from the {} to the {place}.", people[moved].name, places[moved]),
            ]);
        }
    }
    let mut questions = Vec::new();
    for (person, place) in people.iter().zip(&now) {
        questions.push((format!("Where is {}?", person.name), format!("{} is in the {place}.", person.name)));
        questions.push((format!("Who is in the {place}?"), format!("{} is in the {place}.", person.name)));
    }
    t.ask(&questions, 1.0);
}

pub fn card(t: &mut Teller) {
    let [who] = t.people();
    let (town, color, animal, number) = (t.one(&TOWNS), t.one(&COLORS), t.one(&ANIMALS), t.number(2, 99));
    let pet = format!("{color} {animal}");
    let card = format!("Name: {}. Role: {}. Town: {town}. Animal: {pet}. Number: {number}.", who.name, who.role);
    let told = [
        format!("{} is a {} in {town} with {}, and {} number is {number}.", who.name, who.role, a(&pet), who.their()),
        format!(
            "In {town} lives {} the {}. {} has {} and the number {number}.",
            who.name,
            who.role,
            who.begin(),
            a(&pet)
        ),
    ];
    let at = t.number(0, 1) as usize;
    let told = told[at].clone();
    if t.chance(0.5) {
        t.say(card);
        t.say(told);
    } else {
        t.say(told);
        t.say(card);
    }
    let questions = [
        (format!("What number has {}?", who.name), format!("{} has the number {number}.", who.name)),
        (format!("Who has {}?", a(&pet)), format!("{} has {}.", who.name, a(&pet))),
        (format!("Where does {} live?", who.name), format!("{} lives in {town}.", who.name)),
    ];
    t.ask(&questions, 0.4);
}
