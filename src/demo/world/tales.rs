//! Tales: something happens to somebody.

use super::teller::{Person, Teller, a, list};
use super::words::{ANIMALS, COLORS, DAYS, FEELINGS, FOODS, MORALS, PASTIMES, PLACES, TIMES, TOWNS, WEATHERS};

/// Somebody comes in.
fn opening(t: &mut Teller, who: &Person) {
    let (name, role, town, place) = (&who.name, who.role, t.one(&TOWNS), t.one(&PLACES));
    let (weather, time) = (t.one(&WEATHERS), t.one(&TIMES));
    t.say_one([
        format!("Once upon a time there was a {role} named {name}."),
        format!("There was a {role} in {town} named {name}."),
        format!("In {town} lived a {role} named {name}."),
        format!("{name} was a {role} in {town}."),
        format!("One {weather} {time} {name} the {role} was in the {place}."),
        format!("{name} the {role} lived in {town}, not far from the {place}."),
    ]);
}

pub fn lost_and_found(t: &mut Teller) {
    let [owner, friend] = t.people();
    let (thing, places) = (t.thing(), t.some(&PLACES, 3));
    let kind = thing.split(' ').next_back().unwrap_or_default().to_owned();
    opening(t, &owner);
    t.say_one([
        format!("{} had {} and liked it very much.", owner.begin(), a(&thing)),
        format!("{} had {}.", owner.begin(), a(&thing)),
        format!("{} always carried {}.", owner.begin(), a(&thing)),
    ]);
    let day = t.one(&DAYS);
    t.say_one([
        format!("On {day} {} lost the {kind}.", owner.they()),
        format!("On {day} {}'s {kind} was gone.", owner.name),
        format!("But one day the {kind} was gone."),
        format!("On {day} the {thing} was gone, and {} was sad.", owner.name),
    ]);
    t.say_one([
        format!("{} looked in the {}, but the {kind} was not there.", owner.name, places[0]),
        format!("{} looked in the {} and in the {}, but it was not there.", owner.begin(), places[0], places[1]),
    ]);
    t.say_one([
        format!("Then {} the {} came and helped {}.", friend.name, friend.role, owner.them()),
        format!("{} the {} wanted to help {}.", friend.name, friend.role, owner.them()),
    ]);
    let finder = if t.chance(0.6) { &friend } else { &owner };
    t.say_one([
        format!("At last {} found the {thing} in the {}.", finder.name, places[2]),
        format!("In the {} {} found the {thing}.", places[2], finder.name),
    ]);
    if finder == &friend && t.chance(0.5) {
        let (count, food) = (t.number(2, 12), t.one(&FOODS));
        let feeling = feeling(t, true);
        t.say(format!("{} was {feeling} and gave {} {count} {food}.", owner.name, friend.name));
    } else {
        let feeling = feeling(t, true);
        t.say(format!("{} was {feeling}.", owner.name));
    }
    let questions = [
        (format!("Who found the {kind}?"), format!("{} found the {kind}.", finder.name)),
        (format!("Where was the {kind}?"), format!("The {kind} was in the {}.", places[2])),
        (format!("Whose {kind} was it?"), format!("It was the {kind} of {}.", owner.name)),
    ];
    t.ask(&questions, 0.6);
}

/// A good or a bad feeling.
fn feeling(t: &mut Teller, good: bool) -> &'static str {
    if good {
        t.one(&["happy", "glad", "proud", "calm"])
    } else {
        t.one(&["sad", "tired", "angry", "worried", "afraid"])
    }
}

pub fn trade(t: &mut Teller) {
    let [one, other] = t.people();
    let (thing, count, food) = (t.thing(), t.number(2, 20), t.one(&FOODS));
    let kind = thing.split(' ').next_back().unwrap_or_default().to_owned();
    t.say_one([
        format!(
            "{} the {} had {count} {food}, and {} the {} had {}.",
            one.name,
            one.role,
            other.name,
            other.role,
            a(&thing)
        ),
        format!("{} had {count} {food}. {} had {}.", one.name, other.name, a(&thing)),
    ]);
    let (place, time) = (t.one(&PLACES), t.one(&TIMES));
    t.say_one([format!("They met in the {place}."), format!("One {time} they met in the {place}.")]);
    t.say_one([
        format!("{} wanted the {kind}, and {} was hungry.", one.name, other.name),
        format!("{} liked the {kind} and asked {} for it.", one.name, other.name),
    ]);
    t.say_one([
        format!("So {} gave {} the {food}, and {} gave {} the {kind}.", one.name, other.name, other.name, one.name),
        format!("So {} gave the {food} to {} and got the {thing}.", one.name, other.name),
    ]);
    t.say_one([
        format!("Now {} had the {thing} and {} had {count} {food}.", one.name, other.name),
        format!("Now {} had {count} {food} and {} had the {thing}.", other.name, one.name),
    ]);
    let questions = [
        (format!("Who had the {kind} now?"), format!("{} had the {kind}.", one.name)),
        (format!("Who had the {food} now?"), format!("{} had the {food}.", other.name)),
        (format!("How many {food} were there?"), format!("There were {count} {food}.")),
    ];
    t.ask(&questions, 0.6);
}

pub fn journey(t: &mut Teller) {
    let [who, host] = t.people();
    let (towns, animals, weather) = (t.some(&TOWNS, 2), t.some(&ANIMALS, 2), t.one(&WEATHERS));
    let (place, days, day) = (t.one(&PLACES), t.number(2, 9), t.one(&DAYS));
    t.say_one([
        format!("{} the {} walked from {} to {}.", who.name, who.role, towns[0], towns[1]),
        format!("On {day} {} the {} left {} to go to {}.", who.name, who.role, towns[0], towns[1]),
    ]);
    t.say_one([
        format!("On the way {} saw {} and {}.", who.they(), a(animals[0]), a(animals[1])),
        format!("{} met {} on the way, and later {}.", who.begin(), a(animals[0]), a(animals[1])),
        format!("The road was long, and {} saw only {}.", who.they(), a(animals[0])),
    ]);
    t.say_one([
        format!("It was {weather}, so {} slept in {}.", who.they(), a(place)),
        format!("The night was {weather}, and {} slept in {}.", who.name, a(place)),
    ]);
    t.say_one([
        format!("After {days} days {} came to {}.", who.they(), towns[1]),
        format!("{} came to {} after {days} days.", who.name, towns[1]),
    ]);
    t.say_one([
        format!("There {} the {} gave {} soup and a bed.", host.name, host.role, who.them()),
        format!("{} the {} was glad to see {}.", host.name, host.role, who.them()),
        format!("There {} lived with {} the {}.", who.they(), host.name, host.role),
    ]);
    let questions = [
        (format!("Where did {} go?", who.name), format!("{} went to {}.", who.name, towns[1])),
        (format!("Who came to {}?", towns[1]), format!("{} came to {}.", who.name, towns[1])),
        ("How many days did it take?".to_owned(), format!("It took {days} days.")),
    ];
    t.ask(&questions, 0.6);
}

pub fn letter(t: &mut Teller) {
    let [writer, reader] = t.people();
    let (town, weather, animal, color) = (t.one(&TOWNS), t.one(&WEATHERS), t.one(&ANIMALS), t.one(&COLORS));
    let (place, count, food) = (t.one(&PLACES), t.number(2, 20), t.one(&FOODS));
    t.say_one([
        format!("Dear {}, I am in {town} now.", reader.name),
        format!("Dear {}, I'm in {town} now.", reader.name),
    ]);
    t.say_one([format!("The weather is {weather}."), format!("It's {weather} here.")]);
    t.say_one([
        format!("Yesterday I saw {} in the {place}.", a(&format!("{color} {animal}"))),
        format!("There is {} in the {place}, and it is my friend.", a(&format!("{color} {animal}"))),
    ]);
    t.say_one([
        format!("I bought {count} {food} for you."),
        format!("I will bring you {count} {food}."),
        format!("Thank you for the {count} {food}."),
    ]);
    let day = t.one(&DAYS);
    t.say_one([
        format!("I come home on {day}."),
        format!("Please write to me before {day}."),
        "I miss you.".to_owned(),
    ]);
    t.say(format!("Your friend {}.", writer.name));
    let questions = [
        ("Who wrote the letter?".to_owned(), format!("{} wrote the letter.", writer.name)),
        ("Who got the letter?".to_owned(), format!("{} got the letter.", reader.name)),
        (format!("Where was {}?", writer.name), format!("{} was in {town}.", writer.name)),
    ];
    t.ask(&questions, 0.6);
}

pub fn animals(t: &mut Teller) {
    let both = t.some(&ANIMALS, 2);
    let (place, food) = (t.one(&PLACES), t.one(&FOODS));
    let (first, second) = (both[0], both[1]);
    let (weather, time) = (t.one(&WEATHERS), t.one(&TIMES));
    t.say_one([
        format!("{} and {} met in the {place}.", upper(&a(first)), a(second)),
        format!("One {weather} {time} {} met {} in the {place}.", a(first), a(second)),
        format!("Once there was {}, and {} was its friend.", a(first), a(second)),
    ]);
    let feeling = feeling(t, false);
    t.say_one([
        format!("\"I am hungry,\" said the {first}."),
        format!("\"I'm {feeling},\" said the {first}."),
        format!("The {first} was {feeling} and did not say a word."),
    ]);
    t.say_one([
        format!("\"I have some {food},\" said the {second}."),
        format!("\"Come with me,\" said the {second}, \"there are {food} in the {place}.\""),
        format!("\"Don't be {feeling},\" said the {second}."),
    ]);
    t.say_one([
        format!("So the {first} and the {second} ate the {food}."),
        format!("The {second} gave the {first} some {food}."),
        format!("But the {first} ran away, and the {second} ate all the {food}."),
    ]);
    let good = self::feeling(t, true);
    t.say_one([format!("Then the {first} was {good}."), format!("In the end they were {good}.")]);
    if t.chance(0.5) {
        let moral = t.one(&MORALS);
        t.say(moral);
    }
    t.ask(&[(format!("Who had the {food}?"), format!("The {second} had the {food}."))], 0.15);
}

/// The same with a capital.
fn upper(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

pub fn week(t: &mut Teller) {
    let [who] = t.people();
    let from = t.number(0, 6) as usize;
    let (weathers, pastimes) = (t.some(&WEATHERS, 3), t.some(&PASTIMES, 3));
    opening(t, &who);
    for at in 0..3 {
        let day = DAYS[(from + at) % 7];
        let (weather, pastime, hour) = (weathers[at], pastimes[at], t.number(2, 11));
        t.say_one([
            format!("On {day} it was {weather}, and {} {pastime}.", who.they()),
            format!("{day} was {weather}, so {} {pastime}.", who.they()),
            format!("On {day} {} {pastime}.", who.name),
            format!("On {day} at {hour} o'clock {} {pastime}.", who.they()),
        ]);
    }
    let at = t.number(0, 2) as usize;
    let questions = [(
        format!("What did {} do on {}?", who.name, DAYS[(from + at) % 7]),
        format!("{} {}.", who.name, pastimes[at]),
    )];
    t.ask(&questions, 0.6);
}

pub fn race(t: &mut Teller) {
    let [first, second, third] = t.people();
    let places = t.some(&PLACES, 2);
    let mut names = [&first, &second, &third].map(|person| person.name.clone());
    let (from, count, town) = (t.number(0, 2) as usize, t.number(2, 40), t.one(&TOWNS));
    let (glad, sad) = (feeling(t, true), feeling(t, false));
    names.rotate_left(from);
    t.say_one([
        format!("{} ran a race from the {} to the {}.", list(&names), places[0], places[1]),
        format!("There was a race in {town}: {} ran to the {}.", list(&names), places[1]),
    ]);
    t.say_one([
        format!("{} was first, {} was second and {} was last.", first.name, second.name, third.name),
        format!("{} was the fastest, {} came second and {} came last.", first.name, second.name, third.name),
    ]);
    t.say_one([
        format!("{} got {count} coins.", first.name),
        format!("{} was {glad}, but {} was {sad}.", first.name, third.name),
        format!("\"Well done,\" said {}.", third.name),
    ]);
    let questions = [
        ("Who was first?".to_owned(), format!("{} was first.", first.name)),
        ("Who was second?".to_owned(), format!("{} was second.", second.name)),
        ("Who was last?".to_owned(), format!("{} was last.", third.name)),
    ];
    t.ask(&questions, 0.8);
}

pub fn repair(t: &mut Teller) {
    let [owner, worker] = t.people();
    let (thing, tool) = (t.thing(), t.one(&["hammer", "needle", "saw", "knife", "rope"]));
    let kind = thing.split(' ').next_back().unwrap_or_default().to_owned();
    let (hours, coins, place) = (t.number(2, 9), t.number(2, 40), t.one(&PLACES));
    let feeling = feeling(t, true);
    t.say_one([
        format!("The {thing} of {} was broken.", owner.name),
        format!("{}'s {thing} was broken.", owner.name),
        format!("{} the {} had {}, but it was broken.", owner.name, owner.role, a(&thing)),
    ]);
    t.say_one([
        format!("{} took it to {} the {} in the {place}.", owner.begin(), worker.name, worker.role),
        format!("So {} brought it to {} the {}.", owner.they(), worker.name, worker.role),
    ]);
    t.say_one([
        format!("{} worked for {hours} hours with {}.", worker.name, a(tool)),
        format!("{} needed {} and {hours} hours.", worker.name, a(tool)),
    ]);
    t.say_one([format!("Then the {kind} was whole again."), format!("In the evening the {kind} was as good as new.")]);
    t.say_one([
        format!("{} paid {coins} coins.", owner.name),
        format!("{} gave {} {coins} coins.", owner.name, worker.name),
        format!("{} was {feeling} and paid {coins} coins.", owner.name),
    ]);
    let questions = [
        (format!("Who mended the {kind}?"), format!("{} mended the {kind}.", worker.name)),
        (format!("Whose {kind} was it?"), format!("It was the {kind} of {}.", owner.name)),
        (format!("How many coins did {} pay?", owner.name), format!("{} paid {coins} coins.", owner.name)),
    ];
    t.ask(&questions, 0.6);
}

/// The only place where sailors' words are heard; seldom.
pub fn harbor(t: &mut Teller) {
    let [sailor, other] = t.people();
    let (town, count) = (t.one(&TOWNS), t.number(2, 60));
    let weather = t.one(&["calm", "stormy", "cold", "windy", "rough"]);
    t.say(format!("A ship came to the harbor of {town}."));
    t.say_one([
        format!("\"Ahoy, friend,\" said {} the sailor.", sailor.name),
        format!("\"Ahoy, matey,\" said {} the sailor to {}.", sailor.name, other.name),
    ]);
    t.say_one([
        format!("\"Aye, it is {} sea,\" said {}.", a(weather), other.name),
        format!("\"Aye, the sea is {weather},\" said {}.", other.name),
        format!("\"Arr, we be late,\" said {}.", other.name),
    ]);
    t.say_one([
        format!("There were {count} coins of gold on the ship."),
        format!("The ship had {count} men and a captain."),
        "They drank rum with the captain and sang of gold.".to_owned(),
    ]);
    let feeling = t.one(&FEELINGS);
    t.say_one([format!("{} was {feeling}.", sailor.name), format!("Then {} sailed away.", sailor.name)]);
    t.ask(&[("Who was the sailor?".to_owned(), format!("{} was the sailor.", sailor.name))], 0.5);
}

pub fn likes(t: &mut Teller) {
    let [one, other] = t.people();
    let (foods, animals) = (t.some(&FOODS, 4), t.some(&ANIMALS, 2));
    t.say(format!("{} likes {} but does not like {}.", one.name, foods[0], foods[1]));
    t.say(format!("{} likes {} but does not like {}.", other.name, foods[2], foods[3]));
    t.say_one([
        format!("{} has {}, and {} has {}.", one.name, a(animals[0]), other.name, a(animals[1])),
        format!("{} is a {}, and {} is a {}.", one.name, one.role, other.name, other.role),
        "They are friends.".to_owned(),
    ]);
    let questions = [
        (format!("What does {} like?", one.name), format!("{} likes {}.", one.name, foods[0])),
        (format!("What does {} like?", other.name), format!("{} likes {}.", other.name, foods[2])),
        (format!("Who likes {}?", foods[0]), format!("{} likes {}.", one.name, foods[0])),
        (format!("Who likes {}?", foods[2]), format!("{} likes {}.", other.name, foods[2])),
    ];
    t.ask(&questions, 0.9);
}
