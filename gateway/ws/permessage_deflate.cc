#include "ws/permessage_deflate.h"

#include <algorithm>

#include "base/field.h"

namespace sluice::ws {
namespace {

constexpr std::string_view extension_name = "permessage-deflate";

// The parameters of one element of the field, an offer or an answer.
struct Terms {
  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
  std::optional<std::uint8_t> server_max_window_bits;
  bool has_client_max_window_bits = false;  // an offer may have it without a value
  std::optional<std::uint8_t> client_max_window_bits;
};

// RFC 7692 7.1.2: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
std::optional<std::uint8_t> parse_window_bits(const std::optional<std::string>& value) {
  if (!value) return std::nullopt;
  for (std::uint8_t bits = window_bits_min; bits <= window_bits_max; ++bits) {
    if (*value == std::to_string(bits)) return bits;
  }
  return std::nullopt;
}

// RFC 7692 7.1.1: the two have no value. False if one has, or if it came before.
bool take_flag(const ExtensionParameter& parameter, bool& flag) {
  if (flag || parameter.value) return false;
  flag = true;
  return true;
}

bool take_parameter(const ExtensionParameter& parameter, Terms& terms) {
  if (parameter.name == "server_no_context_takeover") {
    return take_flag(parameter, terms.server_no_context_takeover);
  }
  if (parameter.name == "client_no_context_takeover") {
    return take_flag(parameter, terms.client_no_context_takeover);
  }
  if (parameter.name == "server_max_window_bits") {
    if (terms.server_max_window_bits) return false;
    terms.server_max_window_bits = parse_window_bits(parameter.value);
    return terms.server_max_window_bits.has_value();
  }
  if (parameter.name == "client_max_window_bits") {
    if (std::exchange(terms.has_client_max_window_bits, true)) return false;
    terms.client_max_window_bits = parse_window_bits(parameter.value);
    return terms.client_max_window_bits.has_value() || !parameter.value;
  }
  return false;
}

// RFC 7692 7.1: nothing if the element is not ours, or is to be declined: parameters that are not
// defined, that are repeated, or that have invalid values.
std::optional<Terms> terms_of(const Extension& extension) {
  if (extension.name != extension_name) return std::nullopt;
  Terms terms;
  for (const ExtensionParameter& parameter : extension.parameters) {
    if (!take_parameter(parameter, terms)) return std::nullopt;
  }
  return terms;
}

DeflateAgreement agree(const Terms& offer, const DeflatePolicy& policy) {
  DeflateParameters agreed;
  std::string field(extension_name);
  agreed.server.context_takeover = policy.context_takeover && !offer.server_no_context_takeover;
  if (!agreed.server.context_takeover) field += "; server_no_context_takeover";
  // RFC 7692 7.1.1.2: a server may ask for this whether or not the client offered it.
  agreed.client.context_takeover = policy.context_takeover && !offer.client_no_context_takeover;
  if (!agreed.client.context_takeover) field += "; client_no_context_takeover";
  agreed.server.window_bits = policy.window_bits;
  if (offer.server_max_window_bits) {
    // RFC 7692 7.1.2.1: accepted by answering with the same or a smaller value. Without the
    // parameter the client is ready for the largest window, and need not be told of a smaller one.
    agreed.server.window_bits = std::min(policy.window_bits, *offer.server_max_window_bits);
    field += "; server_max_window_bits=" + std::to_string(agreed.server.window_bits);
  }
  // RFC 7692 7.1.2.2: the client's window may only be limited if the client offered it.
  if (offer.has_client_max_window_bits) {
    const std::uint8_t offered = offer.client_max_window_bits.value_or(window_bits_max);
    agreed.client.window_bits = std::min(policy.window_bits, offered);
    if (offer.client_max_window_bits || agreed.client.window_bits < window_bits_max) {
      field += "; client_max_window_bits=" + std::to_string(agreed.client.window_bits);
    }
  }
  return {agreed, std::move(field)};
}

// RFC 7692 7.1.1, 7.1.2: what an answer must and must not have, given the offer.
bool answers(const Terms& answer, const Terms& offer) {
  if (offer.server_no_context_takeover && !answer.server_no_context_takeover) return false;
  if (offer.server_max_window_bits &&
      (!answer.server_max_window_bits ||
       *answer.server_max_window_bits > *offer.server_max_window_bits)) {
    return false;
  }
  if (!answer.has_client_max_window_bits) return true;
  return offer.has_client_max_window_bits && answer.client_max_window_bits.has_value() &&
         *answer.client_max_window_bits <= offer.client_max_window_bits.value_or(window_bits_max);
}

Terms offered_terms(const DeflatePolicy& policy) {
  Terms terms;
  terms.server_no_context_takeover = terms.client_no_context_takeover = !policy.context_takeover;
  if (policy.window_bits < window_bits_max) terms.server_max_window_bits = policy.window_bits;
  terms.has_client_max_window_bits = true;
  return terms;
}

}  // namespace

std::optional<DeflateAgreement> agree_to_deflate(const std::vector<Extension>& offers,
                                                 const DeflatePolicy& policy) {
  for (const Extension& offer : offers) {
    if (const auto terms = terms_of(offer)) return agree(*terms, policy);
  }
  return std::nullopt;
}

std::string deflate_offer(const DeflatePolicy& policy) {
  std::string field(extension_name);
  if (!policy.context_takeover) field += "; server_no_context_takeover; client_no_context_takeover";
  if (policy.window_bits < window_bits_max) {
    field += "; server_max_window_bits=" + std::to_string(policy.window_bits);
  }
  return field + "; client_max_window_bits";
}

Result<DeflateParameters> check_deflate_answer(std::string_view field,
                                               const DeflatePolicy& policy) {
  const auto extensions = parse_extensions(field);
  if (!extensions || extensions->size() != 1) return fail("not exactly one extension is agreed to");
  const auto answer = terms_of(extensions->front());
  if (!answer) return fail("an extension was not offered, or has wrong parameters");
  const Terms offer = offered_terms(policy);
  if (!answers(*answer, offer)) return fail("the extension's parameters do not fit the offer");
  DeflateParameters agreed;
  agreed.server.context_takeover = !answer->server_no_context_takeover;
  agreed.server.window_bits = answer->server_max_window_bits.value_or(window_bits_max);
  agreed.client.context_takeover = policy.context_takeover && !answer->client_no_context_takeover;
  agreed.client.window_bits =
      std::min(policy.window_bits, answer->client_max_window_bits.value_or(window_bits_max));
  return agreed;
}

std::string passable_offers(const std::vector<Extension>& offers) {
  std::string field;
  for (const Extension& offer : offers) {
    if (!terms_of(offer)) continue;
    if (!field.empty()) field += ", ";
    field += to_string(offer);
  }
  return field;
}

bool answers_offers(std::string_view field, std::string_view offers) {
  const auto answered = parse_extensions(field);
  const auto offered = parse_extensions(offers);
  if (!answered || answered->size() != 1 || !offered) return false;
  const auto answer = terms_of(answered->front());
  if (!answer) return false;
  return std::ranges::any_of(*offered, [&](const Extension& offer) {
    const auto terms = terms_of(offer);
    return terms && answers(*answer, *terms);
  });
}

}  // namespace sluice::ws
