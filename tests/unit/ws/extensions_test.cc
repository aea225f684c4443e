#include "ws/extensions.h"

#include <doctest/doctest.h>

#include "ws/permessage_deflate.h"

using namespace sluice::ws;

namespace {

std::string listed(std::string_view field) {
  const auto extensions = parse_extensions(field);
  if (!extensions) return "malformed";
  std::string text;
  for (const Extension& extension : *extensions) text += "[" + to_string(extension) + "]";
  return text;
}

std::string agreed(std::string_view field, const DeflatePolicy& policy = {}) {
  const auto offers = parse_extensions(field);
  REQUIRE(offers);
  const auto agreement = agree_to_deflate(*offers, policy);
  return agreement ? agreement->field : "declined";
}

constexpr DeflatePolicy shared{};
constexpr DeflatePolicy dedicated{.context_takeover = true, .window_bits = 12};

}  // namespace

TEST_CASE("extensions are parsed as RFC 6455 9.1 writes them") {
  CHECK(listed("foo") == "[foo]");
  CHECK(listed("foo; bar; baz=2") == "[foo; bar; baz=2]");
  CHECK(listed("foo, bar; baz=2 ,x") == "[foo][bar; baz=2][x]");
  CHECK(listed("foo;bar = \"2\"") == "[foo; bar=2]");
  CHECK(listed("foo; bar=\"a\\b\"") == "[foo; bar=ab]");
  CHECK(listed("\t foo ,, , bar ") == "[foo][bar]");
}

TEST_CASE("what does not follow the grammar of RFC 6455 9.1 is malformed") {
  for (const char* field : {"", ",", ";", "foo;", "foo; ", "foo bar", "foo; =2",
                            "foo; bar=", "foo; bar=\"", "foo; b=\"\"", "foo; b=\"a b\"",
                            "foo; b=\"a\\", "foo; b=a b", "\"foo\"", "foo; b=\"a\"c", "f@o"}) {
    CAPTURE(field);
    CHECK(listed(field) == "malformed");
  }
}

TEST_CASE("a field of thousands of parameters and elements costs no more than its length") {
  std::string field = "permessage-deflate";
  for (int i = 0; i < 10'000; ++i) field += "; p" + std::to_string(i);
  CHECK(parse_extensions(field)->front().parameters.size() == 10'000);
  CHECK(agreed(field) == "declined");
  std::string many = "a";
  for (int i = 0; i < 10'000; ++i) many += ", a";
  CHECK(parse_extensions(many)->size() == extensions_max);
}

TEST_CASE("without context takeover both ends are told so (RFC 7692 7.1.1)") {
  CHECK(agreed("permessage-deflate") ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
  // What Chromium and Firefox offer.
  CHECK(agreed("permessage-deflate; client_max_window_bits") ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
}

TEST_CASE("window bits are agreed on as they were offered (RFC 7692 7.1.2)") {
  const std::string none =
      "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
  CHECK(agreed("permessage-deflate; server_max_window_bits=10") ==
        none + "; server_max_window_bits=10");
  CHECK(agreed("permessage-deflate; server_max_window_bits=\"8\"") ==
        none + "; server_max_window_bits=8");
  CHECK(agreed("permessage-deflate; client_max_window_bits=9") ==
        none + "; client_max_window_bits=9");
  CHECK(agreed("permessage-deflate", dedicated) == "permessage-deflate");
  CHECK(agreed("permessage-deflate; client_max_window_bits", dedicated) ==
        "permessage-deflate; client_max_window_bits=12");
  CHECK(agreed("permessage-deflate; client_max_window_bits=10; server_max_window_bits=15",
               dedicated) ==
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10");
  CHECK(agreed("permessage-deflate; server_no_context_takeover", dedicated) ==
        "permessage-deflate; server_no_context_takeover");
  CHECK(agreed("permessage-deflate; client_no_context_takeover", dedicated) ==
        "permessage-deflate; client_no_context_takeover");
}

TEST_CASE("what was agreed on is what each end does") {
  const auto agreement = agree_to_deflate(
      *parse_extensions("permessage-deflate; client_max_window_bits; server_max_window_bits=9"),
      dedicated);
  REQUIRE(agreement);
  CHECK(agreement->parameters.server == DeflateDirection{true, 9});
  CHECK(agreement->parameters.client == DeflateDirection{true, 12});
  // Without client_max_window_bits nothing limits the client's window.
  CHECK(agree_to_deflate(*parse_extensions("permessage-deflate"), dedicated)->parameters.client ==
        DeflateDirection{true, 15});
}

TEST_CASE("an invalid offer is declined, and the next one considered (RFC 7692 7.1)") {
  for (const char* parameter :
       {"server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=16",
        "server_max_window_bits=99", "server_max_window_bits=010", "server_max_window_bits=8x",
        "client_max_window_bits=7", "client_max_window_bits=16", "client_max_window_bits=+9",
        "server_no_context_takeover=1", "client_no_context_takeover=true", "unknown", "unknown=1",
        "constructor", "server_max_window_bits=9; server_max_window_bits=9",
        "client_max_window_bits; client_max_window_bits=9",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover"}) {
    CAPTURE(parameter);
    const std::string offer = std::string("permessage-deflate; ") + parameter;
    CHECK(agreed(offer) == "declined");
    CHECK(agreed(offer + ", permessage-deflate", dedicated) == "permessage-deflate");
  }
  CHECK(agreed("x-webkit-deflate-frame") == "declined");
  CHECK(agreed("permessage-bzip2, permessage-deflate; server_max_window_bits=11", dedicated) ==
        "permessage-deflate; server_max_window_bits=11");
}

TEST_CASE("a client offers what it wants, and fails a server that answers something else") {
  CHECK(deflate_offer(shared) ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        "client_max_window_bits");
  CHECK(deflate_offer(dedicated) ==
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits");

  const auto answer = check_deflate_answer(
      "permessage-deflate; server_no_context_takeover; client_max_window_bits=10", shared);
  REQUIRE(answer);
  CHECK(answer->server == DeflateDirection{false, 15});
  CHECK(answer->client == DeflateDirection{false, 10});
  const auto kept =
      check_deflate_answer("permessage-deflate; server_max_window_bits=11", dedicated);
  REQUIRE(kept);
  CHECK(kept->server == DeflateDirection{true, 11});
  CHECK(kept->client == DeflateDirection{true, 12});

  // RFC 7692 7.1.1.1: accepted by including it; an answer without it accepts nothing.
  CHECK_FALSE(check_deflate_answer("permessage-deflate", shared));
  CHECK_FALSE(check_deflate_answer("permessage-deflate", dedicated));
  for (const char* field : {"permessage-deflate; server_max_window_bits=13",
                            "permessage-deflate; server_max_window_bits=12; client_max_window_bits",
                            "permessage-deflate; server_max_window_bits=12; unknown",
                            "permessage-deflate; server_max_window_bits=12, permessage-deflate",
                            "permessage-bzip2", ""}) {
    CAPTURE(field);
    CHECK_FALSE(check_deflate_answer(field, dedicated));
  }
}

TEST_CASE("a relay passes on valid offers of permessage-deflate, and answers that fit them") {
  const auto passable = [](std::string_view field) {
    return passable_offers(*parse_extensions(field));
  };
  CHECK(passable("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits, "
                 "permessage-deflate; server_max_window_bits=7, permessage-deflate") ==
        "permessage-deflate; client_max_window_bits, permessage-deflate");
  CHECK(passable("x-webkit-deflate-frame").empty());

  const char* offers = "permessage-deflate; server_max_window_bits=10";
  CHECK(answers_offers("permessage-deflate; server_max_window_bits=9", offers));
  CHECK_FALSE(answers_offers("permessage-deflate; server_max_window_bits=11", offers));
  CHECK_FALSE(answers_offers("permessage-deflate", offers));
  CHECK_FALSE(answers_offers(
      "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9", offers));
  CHECK(answers_offers("permessage-deflate; server_no_context_takeover", "permessage-deflate"));
  CHECK_FALSE(answers_offers("foo", "foo"));
}
