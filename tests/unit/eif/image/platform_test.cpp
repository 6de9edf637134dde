// SPDX-License-Identifier: Apache-2.0
// Which image of several is taken: the rule alone, then by what each kind of source lists.
#include "eif/image/platform.h"

#include <gtest/gtest.h>

#include <map>

#include "eif/image/oci.h"
#include "eif/image/source.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

using Json = nlohmann::ordered_json;
using nitro::testing::TempFolder;
using nitro::testing::write_file;

constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";
constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

// "linux/amd64/v3" as the object of a descriptor.
Json platform(const std::string& text) {
  Json object;
  const auto first = text.find('/');
  const auto second = text.find('/', first + 1);
  object["architecture"] = text.substr(first + 1, second == std::string::npos ? second : second - first - 1);
  object["os"] = text.substr(0, first);
  if (second != std::string::npos) object["variant"] = text.substr(second + 1);
  return object;
}

TEST(Platform, IsOfAnEnclaveByItsSystemAndArchitecture) {
  for (const auto& [text, architecture, suits] : std::vector<std::tuple<std::string, std::string, bool>>{
           {"linux/amd64", "amd64", true},
           {"linux/arm64", "arm64", true},
           {"linux/amd64", "arm64", false},
           {"linux/arm64", "amd64", false},
           {"linux/386", "amd64", false},
           {"linux/arm/v8", "arm64", false},
           {"windows/amd64", "amd64", false},
           {"/amd64", "amd64", true},
           {"unknown/unknown", "amd64", false},
           {"Linux/AMD64", "amd64", true},
           {"linux/x86_64", "amd64", true},
           {"linux/aarch64", "arm64", true},
           {"linux/amd64/v4", "amd64", true},
           {"linux/arm64/v9", "arm64", true},
           {"linux/", "amd64", false},
       }) {
    EXPECT_EQ(distance(platform_in(platform(text)).value_or(Platform()), architecture).has_value(), suits) << text;
  }
}

TEST(Platform, IsTheNearestWithoutAVariantOrWithTheBaseOne) {
  const std::vector<std::vector<std::string>> from_near_to_far{
      {"amd64", "linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4", "linux/amd64/v10",
       "linux/amd64/newest"},
      {"amd64", "linux/amd64/v1", "linux/amd64/v2", "linux/amd64/v0"},
      {"arm64", "linux/arm64", "linux/arm64/v8.1", "linux/arm64/v8.5", "linux/arm64/v9", "linux/arm64/v9.2",
       "linux/arm64/v7"},
      {"arm64", "linux/arm64/v8", "linux/arm64/9", "linux/arm64/v"},
      {"arm64", "linux/arm64/8", "linux/arm64/v9"},
  };
  for (const auto& row : from_near_to_far) {
    EXPECT_EQ(distance(*platform_in(platform(row[1])), row[0]), 0U) << row[1];
    for (std::size_t i = 2; i < row.size(); ++i) {
      EXPECT_LT(distance(*platform_in(platform(row[i - 1])), row[0]), distance(*platform_in(platform(row[i])), row[0]))
          << row[i];
    }
  }
}

TEST(Platform, IsNotOfAnEnclaveWhenItDemandsFeaturesOfTheSystem) {
  auto object = platform("linux/amd64");
  object["os.version"] = "6.1";
  EXPECT_TRUE(distance(*platform_in(object), "amd64"));
  object["os.features"] = Json::array();
  EXPECT_TRUE(distance(*platform_in(object), "amd64"));
  object["os.features"] = {"win32k"};
  EXPECT_FALSE(distance(*platform_in(object), "amd64"));
}

TEST(Platform, IsNotSaidByAnObjectWithoutSystemAndArchitecture) {
  EXPECT_FALSE(platform_in(Json::object()));
  EXPECT_FALSE(platform_in({{"variant", "v8"}}));
  EXPECT_FALSE(platform_in(Json::array()));
}

// Blobs in memory, and an OCI layout of them.
class Layout {
 public:
  Json add(const Json& document, const char* type) {
    const auto text = document.dump();
    const auto digest = sha256(as_bytes(text));
    blobs_[digest] = text;
    return {{"mediaType", type}, {"digest", digest}, {"size", text.size()}};
  }
  // The descriptor of an image that says `id` in its configuration.
  Json image(const std::string& id, const std::string& made_for = "linux/amd64") {
    auto config = platform(made_for);
    config["author"] = id;
    config["rootfs"] = {{"type", "layers"}, {"diff_ids", Json::array()}};
    return add({{"schemaVersion", 2}, {"config", add(config, kConfigType)}, {"layers", Json::array()}}, kManifestType);
  }
  // The same with its platform said in the descriptor.
  Json stated(const std::string& id, const std::string& made_for) {
    auto descriptor = image(id, made_for);
    descriptor["platform"] = platform(made_for);
    return descriptor;
  }
  Json index(const Json& manifests) { return add({{"schemaVersion", 2}, {"manifests", manifests}}, kIndexType); }

  // What is taken of an index.
  std::string taken(const Json& manifests, const std::string& architecture = "amd64") {
    const BlobStore store = [this](const Descriptor& blob) -> Result<Extent> {
      ++fetched_;
      return extent_of(blobs_.at(blob.digest));
    };
    return author(read_oci_image(Document(Charge(), nlohmann::ordered_json{{"manifests", manifests}}), store,
                                 {architecture}, plenty()));
  }
  // What is taken of a layout with these entries in its index.json.
  std::string taken_of_layout(const Json& manifests, const std::string& name = {}) {
    const TempFolder folder;
    std::filesystem::create_directories(folder / "blobs/sha256");
    for (const auto& [digest, text] : blobs_) write_file(folder / ("blobs/sha256/" + digest.substr(7)), text);
    write_file(folder / "index.json", Json{{"schemaVersion", 2}, {"manifests", manifests}}.dump());
    return author(open_oci_folder({Transport::kOci, folder.path(), name}, {"amd64"}, plenty()));
  }
  [[nodiscard]] int fetched() const { return fetched_; }

 private:
  static std::string author(const Result<ImageSource>& source) {
    return source ? text_at(source->config, "author") : "error: " + source.error().message();
  }

  std::map<std::string, std::string> blobs_;
  int fetched_ = 0;
};

Json named(Json descriptor, const std::string& name) {
  descriptor["annotations"]["org.opencontainers.image.ref.name"] = name;
  return descriptor;
}

Json attestation(Json descriptor) {
  descriptor["annotations"]["vnd.docker.reference.type"] = "attestation-manifest";
  return descriptor;
}

TEST(Index, GivesTheBaseVariantWhateverTheOrder) {
  Layout layout;
  std::vector<Json> entries{layout.stated("v3", "linux/amd64/v3"), layout.stated("v2", "linux/amd64/v2"),
                            layout.stated("base", "linux/amd64"), layout.stated("arm v9", "linux/arm64/v9"),
                            layout.stated("arm v8", "linux/arm64/v8")};
  std::sort(entries.begin(), entries.end());
  do {
    EXPECT_EQ(layout.taken(entries), "base");
    EXPECT_EQ(layout.taken(entries, "arm64"), "arm v8");
  } while (std::next_permutation(entries.begin(), entries.end()));
}

TEST(Index, GivesTheLowestVariantWhereThereIsNoBase) {
  Layout layout;
  EXPECT_EQ(layout.taken({layout.stated("v3", "linux/amd64/v3"), layout.stated("v2", "linux/amd64/v2")}), "v2");
}

TEST(Index, GivesTheFirstOfTwoThatAreAlike) {
  Layout layout;
  EXPECT_EQ(layout.taken({layout.stated("a", "linux/amd64"), layout.stated("b", "linux/amd64/v1")}), "a");
}

TEST(Index, PassesOverAttestations) {
  Layout layout;
  EXPECT_EQ(layout.taken({attestation(layout.stated("x", "linux/amd64")), layout.stated("y", "unknown/unknown"),
                          layout.stated("image", "linux/amd64")}),
            "image");
  EXPECT_EQ(layout.taken({layout.image("image"), attestation(layout.stated("x", "unknown/unknown"))}), "image");
  EXPECT_PRED2(contains, layout.taken(Json::array({attestation(layout.stated("x", "linux/amd64"))})),
               "no platform at all");
}

TEST(Index, IsLookedIntoWhereItDoesNotSayThePlatform) {
  Layout layout;
  EXPECT_EQ(layout.taken({layout.image("arm", "linux/arm64"), layout.image("amd")}), "amd");
  // An artifact's configuration is of another type; its manifest alone is read.
  auto artifact = layout.add({{"config", layout.add({{"os", "linux"}, {"architecture", "amd64"}}, "text/x-signature")},
                              {"layers", Json::array()}},
                             kManifestType);
  EXPECT_EQ(layout.taken({artifact, layout.image("amd")}), "amd");
  EXPECT_PRED2(contains, layout.taken({layout.image("a", "linux/arm64"), layout.image("b", "linux/s390x")}),
               "only for \"linux/arm64\", \"linux/s390x\"");
}

TEST(Index, IsNotLookedIntoWhereAnImageThatSaysItsPlatformSuits) {
  Layout layout;
  EXPECT_EQ(layout.taken({layout.image("silent"), layout.stated("stated", "linux/amd64/v3")}), "stated");
  EXPECT_EQ(layout.fetched(), 2) << "its manifest and its configuration";
}

TEST(Index, MayListIndexes) {
  Layout layout;
  const auto amd = layout.index({layout.stated("v2", "linux/amd64/v2"), layout.stated("v1", "linux/amd64/v1")});
  const auto arm = layout.index(Json::array({layout.stated("arm", "linux/arm64")}));
  EXPECT_EQ(layout.taken({arm, amd}), "v1");
  EXPECT_EQ(layout.taken(Json::array({layout.index({arm, amd})})), "v1");
}

TEST(Index, IsLookedIntoFourLevelsDeep) {
  Layout layout;
  auto deep = layout.image("deep", "linux/arm64");
  for (int i = 0; i < 4; ++i) deep = layout.index(Json::array({deep}));
  EXPECT_EQ(layout.taken({deep, layout.image("amd")}), "amd");
  EXPECT_PRED2(contains, layout.taken({layout.index(Json::array({deep})), layout.image("amd")}), "without end");
}

TEST(Index, HasAnEnd) {
  Layout layout;
  auto deep = layout.image("deep");
  for (int i = 0; i < 8; ++i) deep = layout.index(Json::array({deep}));
  EXPECT_PRED2(contains, layout.taken(Json::array({deep})), "without end");
  EXPECT_LE(layout.fetched(), 5) << "it was followed further than an index may reach";
  auto wide = layout.image("wide", "linux/arm64");
  for (int i = 0; i < 3; ++i) wide = layout.index(std::vector<Json>(20, wide));
  EXPECT_PRED2(contains, layout.taken({wide, wide}), "more than 64");
  EXPECT_LT(layout.fetched(), 300);
}

TEST(PlatformsOfALayout, WithAManifestForEachPlatformGivesTheEnclaves) {
  Layout layout;
  const auto arm = layout.stated("arm", "linux/arm64");
  const auto amd = layout.stated("amd", "linux/amd64");
  const auto proof = attestation(layout.stated("proof", "unknown/unknown"));
  EXPECT_EQ(layout.taken_of_layout({arm, amd, proof}), "amd");
  EXPECT_EQ(layout.taken_of_layout({amd, arm}), "amd");
  EXPECT_EQ(layout.taken_of_layout({layout.stated("v3", "linux/amd64/v3"), amd}), "amd");
  EXPECT_EQ(layout.taken_of_layout({named(arm, "1"), named(amd, "1")}), "amd");
  EXPECT_EQ(
      layout.taken_of_layout({named(layout.image("arm", "linux/arm64"), "1"), named(layout.image("amd"), "1")}, "1"),
      "amd");
  EXPECT_PRED2(contains, layout.taken_of_layout({arm, layout.stated("ibm", "linux/s390x")}),
               "not made for linux/amd64");
}

TEST(PlatformsOfALayout, NamesTheImagesThatItCannotTellApart) {
  Layout layout;
  const auto a = layout.stated("a", "linux/amd64");
  const auto b = layout.stated("b", "linux/amd64/v1");
  const auto refusal = layout.taken_of_layout({a, b, layout.stated("arm", "linux/arm64")});
  EXPECT_PRED2(contains, refusal, "2 images for the same platform");
  EXPECT_PRED2(contains, refusal, text_at(a, "digest"));
  EXPECT_PRED2(contains, refusal, text_at(b, "digest"));
  // Names tell images apart that are for different platforms, too.
  EXPECT_PRED2(contains, layout.taken_of_layout({named(a, "one"), named(layout.stated("arm", "linux/arm64"), "two")}),
               "2 images (\"one\", \"two\")");
  EXPECT_EQ(layout.taken_of_layout({named(a, "one"), named(b, "two")}, "two"), "b");
}

TEST(PlatformsOfALayout, TakesOneImageUnderTwoEntriesForOne) {
  Layout layout;
  const auto a = layout.stated("a", "linux/amd64");
  EXPECT_EQ(layout.taken_of_layout({a, named(a, "1")}), "a");
  EXPECT_EQ(layout.taken_of_layout({layout.image("a"), attestation(layout.image("x"))}), "a");
}

TEST(PlatformsOfAnArchive, WithAnImageForEachPlatformGivesTheEnclaves) {
  const auto config = [](const char* made_for) {
    auto object = platform(made_for);
    object["author"] = made_for;
    return object.dump();
  };
  const auto archive = [&config](const std::vector<const char*>& made_for, const std::vector<std::string>& tags) {
    std::vector<Member> members;
    auto manifests = Json::array();
    for (std::size_t i = 0; i < made_for.size(); ++i) {
      const auto name = std::to_string(i) + ".json";
      members.push_back({.name = name, .content = config(made_for[i])});
      manifests.push_back({{"Config", name}, {"RepoTags", Json::array({tags[i]})}, {"Layers", Json::array()}});
    }
    members.push_back({.name = "manifest.json", .content = manifests.dump()});
    return extent_of(tar(members));
  };
  const auto taken = [](Extent extent, const std::string& wanted) {
    const auto source = read_docker_archive(std::move(extent), wanted, plenty(), {"amd64"});
    return source ? text_at(source->config, "author") : "error: " + source.error().message();
  };
  const std::vector<const char*> platforms{"linux/arm64", "linux/amd64/v3", "linux/amd64"};
  const std::vector<std::string> same{"a:1", "a:1", "a:1"};
  EXPECT_EQ(taken(archive(platforms, same), ""), "linux/amd64");
  EXPECT_EQ(taken(archive(platforms, same), "a:1"), "linux/amd64");
  // Each of them has a configuration to be looked at.
  std::vector<const char*> many(64, "linux/arm64");
  many.back() = "linux/amd64";
  EXPECT_EQ(taken(archive(many, std::vector<std::string>(64, "a:1")), ""), "linux/amd64");
  many.push_back("linux/arm64");
  EXPECT_PRED2(contains, taken(archive(many, std::vector<std::string>(65, "a:1")), ""), "more than 64 times");
  EXPECT_EQ(taken(archive(platforms, same), "@1"), "linux/amd64/v3");
  EXPECT_PRED2(contains, taken(archive(platforms, {"a:1", "a:1", "b:1"}), ""), "3 images (");
  EXPECT_EQ(taken(archive(platforms, {"a:1", "a:1", "b:1"}), "a:1"), "linux/amd64/v3");
  EXPECT_PRED2(contains, taken(archive({"linux/amd64", "linux/amd64/v1"}, {"a:1", "a:1"}), ""), "2 of them for");
}

}  // namespace
}  // namespace nitro::image
