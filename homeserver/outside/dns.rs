//! Names and where they are: addresses, and services by SRV records. Answers are cached by their time to
//! live, and waited for within bounds.

use std::{
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    proto::rr::{Name, RData, rdata::SRV},
};
use ring::rand::{SecureRandom, SystemRandom};

use super::Result;

/// How long one question may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// Answers that are remembered at most.
const CACHED: u64 = 10_000;
/// Addresses of a name, and services, that are tried at most.
const MAX_TRIED: usize = 8;

/// Asks the resolvers of the system, as its settings are when it is first asked.
#[derive(Default)]
pub struct Dns {
    resolver: OnceLock<Option<TokioResolver>>,
    #[cfg(test)]
    world: Option<World>,
}

/// Names and services for tests: where sites are, with the port that stands for 443, and by "service name"
/// where services are.
#[cfg(test)]
#[derive(Default)]
pub struct World {
    pub sites: std::collections::HashMap<String, SocketAddr>,
    pub services: std::collections::HashMap<String, Vec<Service>>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host's name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Dns {
    /// None if the system has no settings for it.
    fn resolver(&self) -> Option<&TokioResolver> {
        let make = || {
            let mut builder = TokioResolver::builder_tokio().ok()?;
            let options = builder.options_mut();
            (options.timeout, options.attempts, options.cache_size) = (PATIENCE, ATTEMPTS, CACHED);
            builder.build().ok()
        };
        self.resolver.get_or_init(make).as_ref()
    }

    #[cfg(test)]
    pub fn within(world: World) -> Self {
        Self { resolver: OnceLock::new(), world: Some(world) }
    }

    /// Where a host's sites are, each at the usual port.
    pub async fn sites(&self, host: &str) -> Result<Vec<SocketAddr>> {
        #[cfg(test)]
        if let Some(world) = &self.world {
            return world.sites.get(host).map(|site| vec![*site]).ok_or_else(|| format!("{host} is not in this world"));
        }
        Ok(self.addresses(host).await?.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }

    /// The addresses of a host.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>> {
        let unknown = |why: &dyn std::fmt::Display| format!("{host} can't be found: {why}");
        #[cfg(test)]
        if let Some(world) = &self.world {
            return world.sites.get(host).map(|site| vec![site.ip()]).ok_or_else(|| unknown(&"not in this world"));
        }
        let mut found: Vec<IpAddr> = match self.resolver() {
            Some(resolver) => {
                let found = resolver.lookup_ip(absolute(host)).await;
                let plainly = |error: hickory_resolver::net::NetError| match error.is_no_records_found() {
                    true => unknown(&"it has no address"),
                    false => unknown(&error),
                };
                found.map_err(plainly)?.iter().collect()
            }
            None => {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| unknown(&error))?;
                found.map(|address| address.ip()).collect()
            }
        };
        found.dedup();
        found.truncate(MAX_TRIED);
        if found.is_empty() { Err(unknown(&"it has no address")) } else { Ok(found) }
    }

    /// Where `service`, such as `_matrix-fed._tcp`, of a name is, in the order in which to try. None if there
    /// are no records; an error if there is one that says there is no such service.
    pub async fn services(&self, service: &str, name: &str) -> Result<Option<Vec<Service>>> {
        #[cfg(test)]
        if let Some(world) = &self.world {
            return Ok(world.services.get(&format!("{service} {name}")).cloned());
        }
        let Some(resolver) = self.resolver() else { return Ok(None) };
        // A name that is too long for a record has none.
        let Ok(asked) = Name::from_ascii(format!("{service}.{name}.")) else { return Ok(None) };
        let found = match resolver.srv_lookup(asked).await {
            Ok(found) => found,
            // Some resolvers fail where there is nothing; where there is something, the next step fails instead.
            Err(error) => {
                tracing::debug!(name, %error, "no {service}");
                return Ok(None);
            }
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service.clone()),
            _ => None,
        });
        let records: Vec<SRV> = records.collect();
        if records.is_empty() {
            return Ok(None);
        }
        let host = |record: &SRV| record.target.to_ascii().trim_end_matches('.').to_owned();
        let mut services: Vec<Service> =
            ordered(records).iter().map(|record| Service { host: host(record), port: record.port }).collect();
        // A lone dot says that there is no such service.
        services.retain(|service| !service.host.is_empty());
        services.truncate(MAX_TRIED);
        if services.is_empty() { Err(format!("{name} says that it has no such service")) } else { Ok(Some(services)) }
    }
}

/// A name with a dot in it is a whole one: what the resolver is told to complete is not asked for by others.
fn absolute(host: &str) -> String {
    let whole = host.contains('.') && !host.ends_with('.');
    if whole { format!("{host}.") } else { host.to_owned() }
}

/// By priority, and among equals by chance, as much as each weighs. rfc: 2782
fn ordered(mut records: Vec<SRV>) -> Vec<SRV> {
    let mut out = Vec::new();
    records.sort_by_key(|record| record.priority);
    while let Some(priority) = records.first().map(|record| record.priority) {
        let equal = records.iter().take_while(|record| record.priority == priority).count();
        let total: u64 = records[..equal].iter().map(weight).sum();
        let mut chosen = random_below(total);
        let at = records[..equal].iter().position(|record| {
            let within = chosen < weight(record);
            chosen = chosen.saturating_sub(weight(record));
            within
        });
        out.push(records.remove(at.unwrap_or(0)));
    }
    out
}

/// Nobody weighs nothing, or the rest would never be tried first.
fn weight(record: &SRV) -> u64 {
    u64::from(record.weight) * 1000 + 1
}

fn random_below(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the first is taken.
    let drawn = SystemRandom::new().fill(&mut bytes).map_or(0, |()| u64::from_le_bytes(bytes));
    drawn.checked_rem(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_come_by_priority_and_then_by_weight() {
        let record =
            |priority, weight, host: &str| SRV::new(priority, weight, 1, Name::from_ascii(host).expect("a name"));
        let mut first = [0; 2];
        for _ in 0..200 {
            let records = vec![record(20, 0, "c."), record(10, 90, "a."), record(10, 10, "b.")];
            let names: Vec<String> = ordered(records).iter().map(|record| record.target.to_ascii()).collect();
            assert_eq!(names[2], "c.");
            first[usize::from(names[0] == "b.")] += 1;
        }
        assert!(first[0] > first[1] && first[1] > 0, "{first:?}");
    }

    #[tokio::test]
    async fn this_machine_is_found() {
        let found = Dns::default().addresses("localhost").await.expect("found");
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
