//! Things that are remembered for a while under names that can't be guessed, and no more than so many.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Remembered at once at most; beyond it the oldest goes.
const MAX: usize = 10_000;

/// Things by name, each for the same time.
pub struct Expiring<T> {
    life: Duration,
    most: usize,
    by_name: HashMap<String, (Instant, T)>,
    /// From the oldest to the newest. Names that are gone already may still stand here.
    order: VecDeque<(Instant, String)>,
}

impl<T> Expiring<T> {
    /// Remembers each thing for so long.
    pub fn new(life: Duration) -> Self {
        Self::of(MAX, life)
    }

    /// The same for things of which no more than so many are remembered.
    pub fn of(most: usize, life: Duration) -> Self {
        Self { life, most, by_name: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers a thing.
    pub fn put(&mut self, name: String, thing: T) {
        let now = Instant::now();
        while self.order.front().is_some_and(|(ends, _)| *ends <= now) || self.order.len() >= self.most {
            let Some((ends, oldest)) = self.order.pop_front() else { break };
            // One that was put again has a later end, and stays.
            if self.by_name.get(&oldest).is_some_and(|(last, _)| *last <= ends) {
                self.by_name.remove(&oldest);
            }
        }
        let ends = now + self.life;
        self.order.push_back((ends, name.clone()));
        self.by_name.insert(name, (ends, thing));
    }

    /// A thing that is still remembered.
    pub fn get(&mut self, name: &str) -> Option<&mut T> {
        let (ends, thing) = self.by_name.get_mut(name)?;
        (*ends > Instant::now()).then_some(thing)
    }

    /// Takes a thing that is still remembered.
    pub fn take(&mut self, name: &str) -> Option<T> {
        let (ends, thing) = self.by_name.remove(name)?;
        (ends > Instant::now()).then_some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_remembered_for_a_while_and_not_without_end() {
        let mut things = Expiring::new(Duration::from_secs(60));
        for number in 0..MAX + 10 {
            things.put(number.to_string(), number);
        }
        assert_eq!(things.get("5"), None, "the oldest went");
        assert_eq!(things.get("10"), Some(&mut 10));
        assert_eq!((things.take("11"), things.take("11")), (Some(11), None));
        let mut gone = Expiring::new(Duration::ZERO);
        gone.put("a".into(), 1);
        assert_eq!(gone.get("a"), None);
        assert_eq!(gone.take("a"), None);
        gone.put("b".into(), 2);
        assert!(gone.by_name.len() <= 1, "what has ended takes no room");
    }

    #[test]
    fn what_is_put_again_stays_as_long_as_the_last_time_says() {
        let mut things = Expiring::new(Duration::from_secs(60));
        things.put("kept".into(), 0);
        for number in 0..MAX - 1 {
            things.put(number.to_string(), number);
        }
        things.put("kept".into(), 1);
        things.put("one more".into(), 2);
        assert_eq!(things.get("kept"), Some(&mut 1));
    }
}
