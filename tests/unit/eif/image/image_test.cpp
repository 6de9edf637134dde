// SPDX-License-Identifier: Apache-2.0
// Images that are wrong in one way each, and what is said about it.
#include "eif/image/image.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>

#include "eif/image/decompress.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

const std::string kLayer = tar({folder("bin"), {.name = "bin/app", .content = std::string(3000, 'x'), .mode = 0755}});

std::string gzipped(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(compressBound(bytes.size()) + 32, '\0');
  std::string input = bytes;
  // zlib's interface is of unsigned char, which may alias any object.
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// What a program makes of the bytes, from its input to its output.
std::string piped(const std::string& command, const std::string& bytes) {
  const nitro::testing::TempFolder folder;
  nitro::testing::write_file(folder / "in", bytes);
  const auto line = command + " <" + (folder / "in") + " >" + (folder / "out");
  EXPECT_EQ(std::system(line.c_str()), 0) << line;
  return nitro::testing::read_file(folder / "out");
}

// A frame of zstd with nothing in it for the reader.
std::string skippable_frame(std::size_t size, char kind = '\x50') {
  return std::string{kind, '\x2a', '\x4d', '\x18', static_cast<char>(size), '\0', '\0', '\0'} + std::string(size, 's');
}

Result<std::string> ramdisk_of(const ArchiveParts& parts) {
  return image::ramdisk_of(read_docker_archive(extent_of(docker_archive(parts)), {}, plenty()));
}

std::string refusal(const ArchiveParts& parts) {
  const auto made = ramdisk_of(parts);
  if (made) return "";
  EXPECT_EQ(made.error().code(), ErrorCode::kEifBuilding);
  return made.error().message();
}

std::string refusal(const std::string& archive, const std::string& name = {}) {
  const auto opened = read_docker_archive(extent_of(archive), name, plenty());
  return opened ? "" : opened.error().message();
}

TEST(Image, IsTheSameWithCompressedLayersAndInACompressedArchive) {
  auto parts = parts_of({kLayer});
  const auto expected = ramdisk_of(parts);
  ASSERT_OK(expected);
  parts.layers = {gzipped(kLayer)};
  const auto layer = ramdisk_of(parts);
  ASSERT_OK(layer);
  expect_same_bytes(*layer, *expected);
  const auto archive = image::ramdisk_of(read_docker_archive(extent_of(gzipped(docker_archive(parts))), {}, plenty()));
  ASSERT_OK(archive);
  expect_same_bytes(*archive, *expected);
}

// Layers whose parts lie in the archive in every way: shared, sparse, empty, replaced, larger than a piece.
std::vector<std::string> odd_layers() {
  std::string large(700'000, 'a');
  for (std::size_t i = 0; i < large.size(); i += 97) large[i] = static_cast<char>(i);
  return {
      kLayer,
      tar({}),
      "",
      tar({{.name = ".wh..wh.plnk/1.2", .content = "linked"},
           hard_link("x", ".wh..wh.plnk/1.2"),
           hard_link("y", ".wh..wh.plnk/1.2"),
           hard_link("z/deep", ".wh..wh.plnk/1.2"),
           {.name = "after", .content = "after"}}),
      tar({{.name = ".wh..wh.plnk/1", .content = large},
           {.name = ".wh..wh.plnk/2", .content = "two"},
           hard_link("b", ".wh..wh.plnk/1"),
           hard_link("a", ".wh..wh.plnk/1"),
           hard_link("c", ".wh..wh.plnk/2"),
           {.name = "d", .content = large + "d"}}),
      pax_member(
          {{"GNU.sparse.map", "5000,6,9000,0,9001,4"}, {"GNU.sparse.numblocks", "3"}, {"GNU.sparse.size", "20000"}}) +
          tar_member({.name = ".wh..wh.plnk/s", .content = "sparsehole"}) +
          tar({hard_link("s1", ".wh..wh.plnk/s"), hard_link("s2", ".wh..wh.plnk/s"), hard_link("s3", "s1")}),
      tar({{.name = "f", .content = "first"}, {.name = "f", .content = "second"}, hard_link("g", "f")}) + "trailing",
      tar_member({.name = "unended", .content = std::string(512, 'u')}),
  };
}

TEST(Image, IsTheSameHoweverItsLayersAreCompressed) {
  for (const auto& layer : odd_layers()) {
    const auto plain = ramdisk_of(parts_of({layer}));
    ASSERT_OK(plain);
    for (const auto& packed :
         {gzipped(layer), piped("zstd -q -c", layer), piped("xz -c", layer), piped("bzip2 -c", layer),
          piped("pzstd -q -c", layer), skippable_frame(7) + skippable_frame(0, '\x5f') + piped("zstd -q -c", layer),
          piped("zstd -q -c --ultra -22 --long=27", layer)}) {
      auto parts = parts_of({layer});
      parts.layers = {packed};
      const auto made = ramdisk_of(parts);
      ASSERT_OK(made);
      expect_same_bytes(*made, *plain);
    }
  }
}

TEST(Image, IsTheSameWhenALayerIsCompressedInParts) {
  const auto plain = ramdisk_of(parts_of({kLayer}));
  ASSERT_OK(plain);
  const auto head = kLayer.substr(0, 1000);
  const auto rest = kLayer.substr(1000);
  const auto zstd = [](const std::string& bytes) { return piped("zstd -q -c", bytes); };
  const auto xz = [](const std::string& bytes) { return piped("xz -c", bytes); };
  for (const auto& packed : {gzipped(head) + gzipped(rest), gzipped("") + gzipped(kLayer) + gzipped(""),
                             zstd(head) + zstd(rest), zstd(head) + skippable_frame(5) + zstd(rest) + skippable_frame(0),
                             zstd("") + zstd(kLayer), xz(head) + xz(rest), xz(kLayer) + std::string(4, '\0')}) {
    auto parts = parts_of({kLayer});
    parts.layers = {packed};
    const auto made = ramdisk_of(parts);
    ASSERT_OK(made);
    expect_same_bytes(*made, *plain);
  }
  auto empty = parts_of({kLayer, ""});
  for (const auto& nothing : {gzipped(""), zstd(""), skippable_frame(3), xz("")}) {
    empty.layers[1] = nothing;
    EXPECT_OK(ramdisk_of(empty));
  }
}

TEST(UnpackedStream, EndsWithAnErrorWhenABlobUnpacksToTooMuch) {
  constexpr std::uint64_t kLimit = std::uint64_t{2} << 20;
  for (const char* program : {"gzip -c", "zstd -q -c", "xz -c", "bzip2 -c", "cat"}) {
    for (const std::uint64_t more : {0U, 1U}) {
      const auto blob = extent_of(piped(program, std::string(kLimit + more, 'x')));
      UnpackedStream stream(blob, plenty(), nullptr, nullptr, kLimit);
      const auto skipped = stream.skip(kLimit + more);
      if (more == 0) {
        ASSERT_OK(skipped);
        EXPECT_EQ(*skipped, kLimit) << program;
      } else {
        ASSERT_FALSE(skipped) << program;
        EXPECT_EQ(skipped.error().code(), ErrorCode::kEifBuilding);
        EXPECT_PRED2(contains, skipped.error().message(), "more than 2 MiB");
      }
    }
  }
}

TEST(Image, RefusesCompressedDataThatIsDamagedInAnyFormat) {
  for (const char* program : {"gzip -c", "zstd -q -c", "xz -c", "bzip2 -c"}) {
    auto parts = parts_of({kLayer});
    const auto packed = piped(program, kLayer);
    parts.layers = {packed.substr(0, packed.size() / 2)};
    EXPECT_PRED2(contains, refusal(parts), "damaged or incomplete") << program;
    parts.layers = {packed};
    parts.layers[0][packed.size() / 2] ^= 0x55;
    EXPECT_PRED2(contains, refusal(parts), "damaged") << program;
  }
  auto parts = parts_of({kLayer});
  parts.layers = {skippable_frame(100).substr(0, 50)};
  EXPECT_PRED2(contains, refusal(parts), "a frame is cut off");
  // Docker 20.10 refuses each of these, too.
  for (const auto& rest :
       {std::string(1, '\0'), std::string(512, '\0'), std::string("and more"), std::string(300'000, 'x')}) {
    for (const char* program : {"gzip -c", "zstd -q -c", "bzip2 -c"}) {
      parts.layers = {piped(program, kLayer) + rest};
      EXPECT_PRED2(contains, refusal(parts), "damaged") << program << rest.size();
    }
  }
}

TEST(Image, RefusesAWindowThatTakesTooMuchMemory) {
  auto parts = parts_of({kLayer});
  // The size of the dictionary is the last byte of the filter's properties, behind the stream's header (12 bytes), the
  // block's size and flags, the filter's number and the size of its properties; a checksum follows the block's header.
  // One thread; more of them would write sizes before the filter.
  auto xz = piped("xz --threads=1 -c", kLayer);
  const auto head_bytes = (static_cast<std::size_t>(xz[12]) + 1) * 4;
  ASSERT_EQ(xz[14], '\x21') << "the filter is LZMA2";
  xz[16] = 40;  // 4 GiB - 1
  auto sum = crc32(0, reinterpret_cast<const Bytef*>(xz.data()) + 12, static_cast<uInt>(head_bytes - 4));
  for (std::size_t i = 0; i < 4; ++i, sum >>= 8) xz[12 + head_bytes - 4 + i] = static_cast<char>(sum & 0xffU);
  parts.layers = {xz};
  EXPECT_PRED2(contains, refusal(parts), "the window of its compressed data would take more than the 160 MiB");
  // Magic number, then a descriptor without any option, then the window: 2 GiB.
  parts.layers = {std::string("\x28\xb5\x2f\xfd\x00\xa8", 6) + std::string(100, '\0')};
  EXPECT_PRED2(contains, refusal(parts), "too much memory");
}

TEST(Layer, CopiesPiecesInAnyOrderAndWithBytesInCommon) {
  std::string content(600'000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 256);
  const auto layer = Layer::open({extent_of(gzipped(content)), {}, "layer"}, sha256(as_bytes(content)));
  ASSERT_OK(layer);
  struct Wanted {
    std::uint64_t offset, size;
  };
  const std::vector<Wanted> wanted{{599'990, 10}, {0, 600'000}, {5, 300'000}, {5, 300'000}, {5, 1}, {400'000, 17}};
  HeldVector<Layer::Piece> pieces(plenty());
  std::string expected;
  for (const auto& [offset, size] : wanted) {
    pieces.push_back({offset, size, expected.size()});
    expected += content.substr(offset, size);
  }
  const auto file = make_scratch_file();
  ASSERT_OK(file);
  ASSERT_OK(layer->copy(pieces, file->get(), plenty()));
  std::string copied(expected.size(), '\0');
  ASSERT_OK(pread_exact(file->get(), std::as_writable_bytes(std::span(copied)), 0));
  expect_same_bytes(copied, expected);
  pieces.push_back({599'999, 2, 0});
  const auto beyond = layer->copy(pieces, file->get(), plenty());
  ASSERT_FALSE(beyond);
  EXPECT_PRED2(contains, beyond.error().message(), "ends inside of a file");
}

// As when the file is changed after the layer's names have been read.
TEST(Layer, IsCheckedAgainWhenItsContentsAreCopied) {
  const auto other = tar({{.name = "bin/app", .content = std::string(3000, 'y')}});
  const auto layer = Layer::open({extent_of(gzipped(other)), {}, "layer"}, sha256(as_bytes(kLayer)));
  ASSERT_OK(layer);
  const auto file = make_scratch_file();
  ASSERT_OK(file);
  const auto copied = layer->copy(HeldVector<Layer::Piece>(plenty()), file->get(), plenty());
  ASSERT_FALSE(copied);
  EXPECT_PRED2(contains, copied.error().message(), "its digest is sha256:");
}

TEST(Image, IsTheSameWhetherItsLayersStoreHolesOrZeros) {
  // Larger than what the writer of ramdisks keeps back, with holes at both ends.
  std::string content(5 << 20, '\0');
  content.replace(3 << 20, 4, "data");
  content.replace((4 << 20) + 1, 4, "more");
  const auto plain = tar({{.name = "file", .content = content}, {.name = "next", .content = "x"}});
  const auto sparse = pax_member({{"GNU.sparse.map", "3145728,4,4194305,4"},
                                  {"GNU.sparse.numblocks", "2"},
                                  {"GNU.sparse.size", std::to_string(content.size())},
                                  {"GNU.sparse.name", "file"}}) +
                      tar({{.name = "stored", .content = "datamore"}, {.name = "next", .content = "x"}});
  const auto expected = ramdisk_of(parts_of({plain}));
  ASSERT_OK(expected);
  auto parts = parts_of({sparse});
  for (const auto& layer : {sparse, gzipped(sparse)}) {
    parts.layers = {layer};
    const auto ramdisk = ramdisk_of(parts);
    ASSERT_OK(ramdisk);
    expect_same_bytes(*ramdisk, *expected);
  }
}

TEST(Image, RefusesHolesThatNoEnclaveCanHold) {
  std::string layer;
  for (int i = 0; i < 20; ++i) {
    layer += pax_member({{"GNU.sparse.map", "0,1"}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.size", "4294967295"}}) +
             tar_member({.name = "hole" + std::to_string(i), .content = "x"});
  }
  EXPECT_PRED2(contains, refusal(parts_of({layer})), "its files are larger than 64 GiB together");
  // Each of two layers has less, but not both.
  const auto half = layer.substr(0, layer.size() / 20 * 10);
  EXPECT_PRED2(contains, refusal(parts_of({half, half})), "the files of the image are larger than 64 GiB together");
  const auto longer =
      pax_member({{"GNU.sparse.map", "0,1"}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.size", "4294967296"}}) +
      tar_member({.name = "hole", .content = "x"});
  EXPECT_PRED2(contains, refusal(parts_of({longer})), "less than 4 GiB");
}

TEST(Image, TakesContentsFromCompressedAndPlainLayersAtOnce) {
  const auto lower = tar({{.name = "a", .content = "lower a"}, {.name = "b", .content = "lower b"}});
  const auto upper = tar({{.name = "b", .content = "upper b"}, {.name = "c", .content = std::string(700000, 'c')}});
  const auto expected = ramdisk_of(parts_of({lower, upper}));
  ASSERT_OK(expected);
  auto parts = parts_of({lower, upper});
  parts.layers = {lower, gzipped(upper)};
  const auto first = ramdisk_of(parts);
  ASSERT_OK(first);
  expect_same_bytes(*first, *expected);
  parts.layers = {gzipped(lower), upper};
  const auto second = ramdisk_of(parts);
  ASSERT_OK(second);
  expect_same_bytes(*second, *expected);
}

TEST(Image, RefusesAnImageThatIsNotForLinux) {
  auto parts = parts_of({kLayer});
  parts.config["os"] = "windows";
  EXPECT_PRED2(contains, refusal(parts), "made for \"windows\"");
  parts.config["os"] = "linux";
  EXPECT_OK(ramdisk_of(parts));
  parts.config.erase("os");
  EXPECT_OK(ramdisk_of(parts));
}

TEST(Document, RefusesAByteOrderMarkByItsName) {
  const auto json = parse_document("\xef\xbb\xbf{}", "the manifest");
  ASSERT_FALSE(json);
  EXPECT_EQ(json.error().code(), ErrorCode::kEifBuilding);
  EXPECT_PRED2(contains, json.error().message(), "the manifest: the JSON begins with a byte order mark");
}

TEST(Image, RefusesALayerWhoseDigestIsWrong) {
  auto parts = parts_of({kLayer});
  parts.layers[0][600] = 'y';
  EXPECT_PRED2(contains, refusal(parts),
               "layer \"0/layer.tar\": tar archive, byte 512: the checksum of a header is wrong");
  parts.layers[0] = kLayer;
  parts.layers[0][1600] = 'y';  // in the content of a file, where nothing else notices
  EXPECT_PRED2(contains, refusal(parts), "layer \"0/layer.tar\": its digest is sha256:");
  parts.layers[0] = gzipped(parts.layers[0]);
  EXPECT_PRED2(contains, refusal(parts), "the image is damaged");
  // One whose contents nobody wants is read once only.
  parts = parts_of({kLayer, tar({folder("d", 0755)})});
  parts.layers[1] = gzipped(tar({folder("d", 0777)}));
  EXPECT_PRED2(contains, refusal(parts), "layer \"1/layer.tar\": its digest is sha256:");
}

TEST(Image, RefusesACompressedLayerThatIsCutOff) {
  auto parts = parts_of({kLayer});
  parts.layers = {gzipped(kLayer)};
  parts.layers[0].resize(parts.layers[0].size() / 2);
  EXPECT_PRED2(contains, refusal(parts), "damaged or incomplete");
}

TEST(Image, RefusesALayerThatIsNoTarArchive) {
  EXPECT_PRED2(contains, refusal(parts_of({std::string(2000, 'x')})), "not a tar archive");
  EXPECT_PRED2(contains, refusal(parts_of({"short"})), "ends inside a header");
}

TEST(Image, TakesAnEmptyLayer) {
  EXPECT_OK(ramdisk_of(parts_of({kLayer, tar({}), ""})));
}

TEST(Image, RefusesLayersThatAreNotThoseOfTheConfiguration) {
  auto parts = parts_of({kLayer, tar({})});
  parts.diff_ids.pop_back();
  EXPECT_PRED2(contains, refusal(parts), "has 2 layers, its configuration names 1");
  parts = parts_of({kLayer});
  parts.diff_ids = {"md5:1234"};
  EXPECT_PRED2(contains, refusal(parts), "\"md5:1234\"");
}

TEST(Image, NeedsACommandAndPrefersCmd) {
  auto parts = parts_of({kLayer});
  parts.config["config"] = nlohmann::ordered_json::object();
  EXPECT_PRED2(contains, refusal(parts), "neither CMD nor ENTRYPOINT");
  parts.config["config"] = nullptr;
  EXPECT_PRED2(contains, refusal(parts), "neither CMD nor ENTRYPOINT");
  parts.config["config"] = {{"Cmd", nullptr}, {"Entrypoint", {"/e", "x"}}};
  parts.config["rootfs"] = {{"diff_ids", parts.diff_ids}};
  EXPECT_EQ(parse_config(parts.config)->command, (std::vector<std::string>{"/e", "x"}));
  parts.config["config"]["Cmd"] = {"/c"};
  EXPECT_EQ(parse_config(parts.config)->command, std::vector<std::string>{"/c"});
  // A list without words runs nothing.
  parts.config["config"]["Cmd"] = nlohmann::ordered_json::array();
  EXPECT_EQ(parse_config(parts.config)->command, (std::vector<std::string>{"/e", "x"}));
  parts.config["config"]["Entrypoint"] = nlohmann::ordered_json::array();
  EXPECT_PRED2(contains, refusal(parts), "neither CMD nor ENTRYPOINT");
  parts.config["config"]["Cmd"] = "/alone";
  EXPECT_EQ(parse_config(parts.config)->command, std::vector<std::string>{"/alone"});
  parts.config["config"]["Cmd"] = {1, 2};
  EXPECT_FALSE(parse_config(parts.config));
}

TEST(DockerArchive, SaysWhatIsMissing) {
  EXPECT_PRED2(contains, refusal(""), "no manifest.json");
  EXPECT_PRED2(contains, refusal("this is text, not an archive"), "ends inside a header");
  EXPECT_PRED2(contains, refusal(std::string(5000, 't')), "not a tar archive");
  EXPECT_PRED2(contains, refusal(tar({{.name = "x"}})), "no manifest.json");
  EXPECT_PRED2(contains, refusal(tar({{.name = "index.json"}})), "oci-archive:");
  EXPECT_PRED2(contains, refusal(tar({{.name = "manifest.json", .content = "[{"}})),
               "manifest.json: the text is no valid JSON");
  for (const char* wrong :
       {"[]", "{}", "7", "null", "[7]", "[{}]", R"([{"Config":7}])", R"([{"Config":"c","Layers":7}])"}) {
    EXPECT_PRED2(contains, refusal(tar({{.name = "manifest.json", .content = wrong}})), "does not describe images")
        << wrong;
  }
  EXPECT_PRED2(contains, refusal(tar({{.name = "manifest.json", .content = R"([{"Config":"c.json","Layers":[]}])"}})),
               "\"c.json\" that manifest.json names is missing");
  EXPECT_PRED2(
      contains,
      refusal(tar({{.name = "c.json", .content = "{}"},
                   {.name = "manifest.json", .content = R"([{"Config":"c.json","Layers":["l/layer.tar"]}])"}})),
      "layer \"l/layer.tar\" that manifest.json names is missing");
}

TEST(DockerArchive, RefusesAConfigurationThatIsNotTheOneInItsName) {
  const auto name = std::string(64, 'a') + ".json";
  EXPECT_PRED2(contains,
               refusal(tar({{.name = name, .content = "{}"},
                            {.name = "manifest.json", .content = R"([{"Config":")" + name + R"("}])"}})),
               "instead of the one in its name");
}

TEST(DockerArchive, RefusesDocumentsThatAreTooLargeOrTooDeep) {
  const std::string large(kMaxDocumentBytes + 1, ' ');
  EXPECT_PRED2(contains, refusal(tar({{.name = "manifest.json", .content = large}})), "bytes long");
  const std::string deep(100000, '[');
  EXPECT_PRED2(contains, refusal(tar({{.name = "manifest.json", .content = deep}})), "nested deeper");
}

TEST(DockerArchive, FindsAnImageAmongSeveral) {
  const std::string config = R"({"config":{"Cmd":["x"]},"rootfs":{"diff_ids":[]}})";
  const auto archive = tar({{.name = "a.json", .content = config},
                            {.name = "b.json", .content = config + " "},
                            {.name = "manifest.json",
                             .content = R"([{"Config":"a.json","RepoTags":["one:1"],"Layers":null},)"
                                        R"({"Config":"./b.json","RepoTags":["localhost:5000/two:2","two:latest"]}])"}});
  EXPECT_PRED2(contains, refusal(archive), "2 images (\"one:1\", \"localhost:5000/two:2\", \"two:latest\"); append");
  EXPECT_PRED2(contains, refusal(archive, "three"), "no image \"three\"; it holds \"one:1\"");
  EXPECT_PRED2(contains, refusal(archive, "two:2"), "no image");
  EXPECT_PRED2(contains, refusal(archive, "@2"), "no image number \"2\"");
  EXPECT_PRED2(contains, refusal(archive, "@x"), "no image number");
  EXPECT_EQ(read_docker_archive(extent_of(archive), "one:1", plenty())->id, sha256(as_bytes(config)));
  for (const char* name : {"two", "docker.io/library/two:latest", "localhost:5000/two:2", "@1"}) {
    const auto found = read_docker_archive(extent_of(archive), name, plenty());
    ASSERT_OK(found);
    EXPECT_EQ(found->id, sha256(as_bytes(config + " "))) << name;
  }
}

TEST(DockerArchive, FollowsTheLinksOfLayersThatImagesShare) {
  auto parts = parts_of({kLayer, kLayer});
  const auto plain = docker_archive(parts);
  const auto first = plain.find("1/layer.tar");
  // The second copy becomes a link, as "docker save" writes it.
  auto linked = plain.substr(0, first) + tar_member(symlink("1/layer.tar", "../0/layer.tar")) +
                plain.substr(first + 512 + kLayer.size());
  EXPECT_OK(image::ramdisk_of(read_docker_archive(extent_of(linked), {}, plenty())));
}

TEST(DockerArchive, NamesTheFileThatCannotBeRead) {
  const auto missing = open_docker_archive({Transport::kDockerArchive, "/nonexistent/x.tar", {}}, plenty());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kFileOperation);
  EXPECT_PRED2(contains, missing.error().message(), "/nonexistent/x.tar");
  const nitro::testing::TempFolder folder;
  const auto not_a_file = open_docker_archive({Transport::kDockerArchive, folder.path(), {}}, plenty());
  ASSERT_FALSE(not_a_file);
  EXPECT_PRED2(contains, not_a_file.error().message(), "give a regular file");
}

class OciLayout : public ::testing::Test {
 protected:
  OciLayout() { std::filesystem::create_directories(folder_ / "blobs/sha256"); }
  nlohmann::ordered_json store(const std::string& bytes) {
    const auto digest = sha256(as_bytes(bytes));
    nitro::testing::write_file(folder_ / ("blobs/sha256/" + digest.substr(7)), bytes);
    return {{"digest", digest}, {"size", bytes.size()}};
  }
  void write_index(const std::vector<nlohmann::ordered_json>& manifests) {
    nlohmann::ordered_json index;
    index["manifests"] = manifests;
    nitro::testing::write_file(folder_ / "index.json", index.dump());
  }
  nlohmann::ordered_json manifest_of(const std::string& layer) {
    nlohmann::ordered_json config{{"architecture", "amd64"}, {"config", {{"Cmd", "/x"}}}};
    config["rootfs"]["diff_ids"].push_back(sha256(as_bytes(layer)));
    nlohmann::ordered_json manifest{{"config", store(config.dump())}};
    manifest["layers"].push_back(store(layer));
    return store(manifest.dump());
  }
  std::string refusal(const std::string& name = {}) {
    const auto made = image::ramdisk_of(open_oci_folder({Transport::kOci, folder_.path(), name}, {"amd64"}, plenty()));
    return made ? "" : made.error().message();
  }
  std::string blob_path(const nlohmann::ordered_json& descriptor) {
    return folder_ / ("blobs/sha256/" + descriptor["digest"].get<std::string>().substr(7));
  }
  nitro::testing::TempFolder folder_;
};

TEST_F(OciLayout, SaysWhatIsMissing) {
  EXPECT_PRED2(contains, refusal(), "index.json");
  nitro::testing::write_file(folder_ / "index.json", "{}");
  EXPECT_PRED2(contains, refusal(), "names no images");
  nlohmann::ordered_json entry{{"digest", "sha512:12"}, {"size", 3}};
  write_index({entry});
  EXPECT_PRED2(contains, refusal(), "\"sha512:12\"");
  entry["digest"] = "sha256:" + std::string(64, '0');
  write_index({entry});
  EXPECT_PRED2(contains, refusal(), "blob sha256:000");
  write_index({store(R"({"fsLayers":[]})")});
  EXPECT_PRED2(contains, refusal(), "not supported");
}

TEST_F(OciLayout, RefusesBlobsThatAreNotWhatTheirDescriptorSays) {
  const auto manifest = manifest_of(kLayer);
  write_index({manifest});
  EXPECT_EQ(refusal(), "");
  const auto layer_path = blob_path(store(kLayer));
  auto changed = kLayer;
  changed[1600] = 'y';
  nitro::testing::write_file(layer_path, changed);
  EXPECT_PRED2(contains, refusal(), "its digest is");
  nitro::testing::write_file(layer_path, kLayer + kLayer);
  EXPECT_PRED2(contains, refusal(), "bytes instead of");
  nitro::testing::write_file(layer_path, kLayer);
  auto text = nitro::testing::read_file(blob_path(manifest));
  text.back() = ' ';
  nitro::testing::write_file(blob_path(manifest), text);
  EXPECT_PRED2(contains, refusal(), "the manifest has the digest");
}

TEST_F(OciLayout, RefusesBlobsByTheSizeThatTheirDescriptorsSay) {
  const auto manifest_with = [this](const char* part, std::uint64_t size) {
    nlohmann::ordered_json blob{{"digest", "sha256:" + std::string(64, '0')}, {"size", size}};
    nlohmann::ordered_json config{{"config", {{"Cmd", "/x"}}}, {"rootfs", {{"diff_ids", nlohmann::json::array()}}}};
    nlohmann::ordered_json manifest{{"config", store(config.dump())}, {"layers", nlohmann::json::array()}};
    if (part == std::string("config")) manifest["config"] = blob;
    if (part == std::string("layer")) manifest["layers"].push_back(blob);
    return store(manifest.dump());
  };
  // None of these blobs is there: who looks for one says so.
  write_index({manifest_with("config", kMaxDocumentBytes)});
  EXPECT_PRED2(contains, refusal(), "blob sha256:000");
  write_index({manifest_with("config", kMaxDocumentBytes + 1)});
  EXPECT_PRED2(contains, refusal(), "the configuration is 4194305 bytes long, more than the 4194304");
  write_index({manifest_with("layer", kMaxUnpackedBytes)});
  EXPECT_PRED2(contains, refusal(), "blob sha256:000");
  write_index({manifest_with("layer", kMaxUnpackedBytes + 1)});
  EXPECT_PRED2(contains, refusal(), "which no enclave can hold");
  auto manifest = manifest_with("", 0);
  manifest["size"] = kMaxDocumentBytes + 1;
  write_index({manifest});
  EXPECT_PRED2(contains, refusal(), "the manifest is 4194305 bytes long");
}

TEST_F(OciLayout, FindsAnImageByNameOrSaysWhichThereAre) {
  auto one = manifest_of(kLayer);
  auto two = manifest_of(tar({}));
  one["annotations"] = {{"org.opencontainers.image.ref.name", "1.0"}};
  two["annotations"] = {{"io.containerd.image.name", "docker.io/library/two:latest"}};
  write_index({one, two});
  EXPECT_PRED2(contains, refusal(), "2 images (\"1.0\", \"docker.io/library/two:latest\")");
  EXPECT_EQ(refusal("1.0"), "");
  EXPECT_EQ(refusal("two"), "");
  EXPECT_PRED2(contains, refusal("3"), "no image \"3\"");
}

TEST_F(OciLayout, RefusesAnIndexWithoutEnd) {
  auto inner = manifest_of(kLayer);
  for (int i = 0; i < 6; ++i) {
    nlohmann::ordered_json outer;
    outer["manifests"].push_back(inner);
    inner = store(outer.dump());
  }
  write_index({inner});
  EXPECT_PRED2(contains, refusal(), "without end");
}

}  // namespace
}  // namespace nitro::image
