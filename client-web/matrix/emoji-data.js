/**
 * The emoji of Unicode, each with words for it, the best first. Data; made from
 * the names in the Unicode character database, with everyday words put before them.
 */
export const GROUPS = /** @type {const} */ ({
  faces: `
    😀 grinning|😁 grin grinning_smiling_eyes|😂 joy lol tears_joy 눈물웃음 ㅋㅋ|😃 smiley smiling_open_mouth|
    😄 smile 웃음|😅 sweat_smile|😆 laughing satisfied|
    😇 innocent smiling_halo|😈 imp smiling_horns|😉 wink winking_face|😊 blush smiling_smiling_eyes|😋 yum savouring_delicious_food|
    😌 relieved|😍 heart_eyes 사랑눈|😏 smirk smirking_face|😐 neutral|
    😑 expressionless|😒 unamused|😓 sweat cold_sweat|😔 pensive|😕 confused|
    😖 confounded|😘 kissing_heart throwing_a_kiss|😛 tongue stuck_out_tongue|😜 zany|
    😞 disappointed|😟 worried|😠 angry|😡 rage pouting_face 화남|😢 cry crying_face 눈물|
    😣 persevere persevering_face|😤 triumph look_triumph|😥 sad_relief disappointed_but_relieved|😦 frown_open frowning_open_mouth|
    😧 anguished|😨 fearful|😩 weary|😪 sleepy|😬 grimacing|😭 sob loudly_crying_face 엉엉|
    😮 open_mouth wow|😰 cold_sweat|😱 scream screaming_in_fear 비명|😲 astonished|😳 flushed|
    😴 sleeping zzz 잠|😵 dizzy_face|😷 mask medical_mask|😺 cat_smile|🙁 slightly_frowning|
    🙂 slightly_smiling|🙃 upside_down|🙄 eye_roll rolling_eyes|🙈 see_no_evil|
    🙉 hear_no_evil|🙊 speak_no_evil|🤐 zipper|🤒 ill face_with_thermometer|🤓 nerd|
    🤔 thinking hmm 생각|🤖 robot|🤠 cowboy|🤡 clown|🤢 nauseated|
    🤣 rofl|🤧 sneezing|🤨 eyebrow one_eyebrow_raised|🤩 star_struck grinning_star_eyes|
    🤪 crazy|🤫 shush quiet|🤬 swearing|
    🤭 giggle|🤮 vomiting open_mouth_vomiting|🤯 mind_blown exploding_head shocked_exploding_head|
    🥰 in_love|🥳 partying 파티|🥴 woozy|🥵 hot overheated_face|
    🥶 cold freezing_face|🥹 holding_back_tears|🥺 pleading|🧐 monocle face_with_monocle|🫠 melting|🫡 salute saluting_face|
    ☹️ frowning white_frowning_face|😎 smiling_sunglasses|😗 kissing_face|😙 kissing_smiling_eyes|😚 kissing_closed_eyes|
    😝 stuck_out_tongue_tightly_closed_eyes|😫 tired_face|😯 hushed_face|😶 face_without_mouth|😸 grinning_cat_smiling_eyes|😹 cat_tears_joy|
    😻 smiling_cat_heart_shaped_eyes|😼 cat_wry_smile|😽 kissing_cat_closed_eyes|😾 pouting_cat_face|😿 crying_cat_face|🙀 weary_cat_face|🤑 money_mouth_face|
    🤕 head_bandage|🤗 hugging_face|🤤 drooling_face|🤥 lying_face|🥱 yawning_face|🥲 smiling_tear|🥷 ninja|🥸 disguised_face|🫢 open_eyes_hand_over_mouth|
    🫣 peeking_eye|🫤 diagonal_mouth|🫥 dotted_line_face|🫦 biting_lip|🫧 bubbles|🫨 shaking_face|🫩 tired bags_under_eyes|🫪 distorted_face|🫯 fight_cloud|☺️ white_smiling_face|👻 ghost boo|
    👽 alien extraterrestrial_alien|💀 skull|💩 poop pile_of_poo|👾 alien_monster|👿 imp`,
  people: `
    👀 eyes look 눈|👋 wave hello bye waving_hand 안녕|👌 ok 오케이|👍 +1 thumbsup yes thumbs_up 좋아요 최고|
    👎 -1 thumbsdown no thumbs_down 싫어요|👏 clap clapping_hands 박수|💪 muscle strong flexed_biceps 힘|
    🙌 raised_hands hooray|🙏 pray please thanks folded_hands 감사 부탁 기도|✊ fist raised_fist|🏃 run runner|
    👆 point_up|👇 point_down|👈 point_left|
    👉 point_right|👊 punch fisted_hand|👐 open_hands|👑 crown|👶 baby|💃 dance dancer|
    🕺 dancing man_dancing|🙋 raise_hand me|🚶 walk pedestrian|🤘 metal horns|🤙 call_me|🤝 handshake deal|
    🤞 fingers_crossed|🤦 facepalm face_palm 아이고|🤷 shrug 글쎄|🧠 brain|🫶 heart_hands|✌️ victory peace|
    ✋ raised_hand|👂 ear|👃 nose|👄 mouth|👅 tongue|👒 womans_hat|👓 eyeglasses|👔 necktie|👕 t_shirt|👖 jeans|👗 dress|👘 kimono|👙 bikini|👚 womans_clothes|
    👛 purse|👜 handbag|👝 pouch|👞 mans_shoe|👟 athletic_shoe|👠 high_heeled_shoe|👡 womans_sandal|👢 womans_boots|👣 footprints|👤 bust_in_silhouette|
    👥 busts_in_silhouette|👦 boy|👧 girl|👨 man|👩 woman|👪 family|👫 man_woman_holding_hands|👬 two_men_holding_hands|👭 two_women_holding_hands|
    👮 police_officer|👯 woman_bunny_ears|👰 bride_with_veil|👱 blond_hair|👲 man_gua_pi_mao|👳 man_with_turban|👴 older_man|👵 older_woman|
    👷 construction_worker|👸 princess|👹 japanese_ogre|👺 japanese_goblin|👼 baby_angel|💁 information_desk_person|💂 guardsman|💄 lipstick|💅 nail_polish|
    💆 face_massage|💇 haircut|🖕 reversed_hand_middle_finger_extended|🖖 raised_hand_part_between_middle_ring_fingers|🙅 no_good_gesture|🙆 ok_gesture|
    🙇 person_bowing_deeply|🙍 person_frowning|🙎 pouting|🤌 pinched_fingers|🤏 pinching_hand|🤚 raised_back_hand|🤛 left_facing_fist|🤜 right_facing_fist|
    🤟 i_love_you_hand|🤰 pregnant_woman|🤱 breast_feeding|🤲 palms_up_together|🤳 selfie|🤴 prince|🤵 man_in_tuxedo|🤶 mother_christmas|
    🤸 person_doing_cartwheel|🤹 juggling|🤺 fencer|🦴 bone|🦵 leg|🦶 foot|🦷 tooth|🦸 superhero|🦹 supervillain|🦺 safety_vest|🦻 ear_hearing_aid|
    🦼 motorized_wheelchair|🦽 manual_wheelchair|🦾 mechanical_arm|🧍 standing_person|🧎 kneeling_person|🧏 deaf_person|🧑 adult|🧒 child|🧓 older_adult|
    🧔 bearded_person|🧕 person_with_headscarf|🧖 in_steamy_room|🧗 person_climbing|🧘 in_lotus_position|🧙 mage|🧚 fairy|🧛 vampire|🧜 merperson|🧝 elf|🧞 genie|
    🧟 zombie|🫂 people_hugging|🫃 pregnant_man|🫄 pregnant_person|🫅 person_with_crown|🫰 hand_index_finger_thumb_crossed|🫱 rightwards_hand|
    🫲 leftwards_hand|🫳 palm_down_hand|🫴 palm_up_hand|🫵 index_pointing_at_viewer|🫷 push_left|🫸 push_right|☝️ white_up_pointing_index|🕵️ sleuth_or_spy|👁️ eye|
    🗣️ speaking_head_in_silhouette`,
  nature: `
    ⚡ zap lightning high_voltage|✨ sparkles 반짝|⭐ star white_medium_star 별|🌈 rainbow|🌊 wave_water water_wave|
    🌍 earth world|🌙 moon crescent_moon 달|🌟 glowing_star|🌱 seedling|🌲 tree evergreen|
    🌳 tree_leafy deciduous_tree|🌸 blossom cherry_blossom 꽃|🌹 rose|🌻 sunflower|🐙 octopus|🐛 bug|🐝 bee honeybee|🐟 fish|🐢 turtle|🐦 bird|🐧 penguin|
    🐭 mouse|🐰 rabbit|🐱 cat 고양이|🐶 dog 개 강아지|🐸 frog|🐻 bear|🐼 panda|
    🔥 fire hot_stuff 불|🦁 lion|🦄 unicorn|🦊 fox|🦋 butterfly|☀️ sunny sun black_sun_rays 해|❄️ snowflake snow|
    ☔ umbrella_rain_drops|⛄ snowman_without_snow|⛅ sun_behind_cloud|🌀 cyclone|🌁 foggy|🌂 closed_umbrella|🌃 night_with_stars|🌄 sunrise_over_mountains|
    🌅 sunrise|🌆 cityscape_at_dusk|🌇 sunset_over_buildings|🌉 bridge_at_night|🌋 volcano|🌌 milky_way|🌎 earth_globe_americas|🌏 earth_globe_asia_australia|
    🌐 globe_with_meridians|🌑 new_moon|🌒 waxing_crescent_moon|🌓 first_quarter_moon|🌔 waxing_gibbous_moon|🌕 full_moon|
    🌖 waning_gibbous_moon|🌗 last_quarter_moon|🌘 waning_crescent_moon|🌚 new_moon|🌛 first_quarter_moon|🌜 last_quarter_moon|🌝 full_moon|🌞 sun_with_face|
    🌠 shooting_star|🌰 chestnut|🌴 palm_tree|🌵 cactus|🌷 tulip|🌺 hibiscus|🌼 blossom|🌽 ear_of_maize|🌾 ear_of_rice|🌿 herb|🍀 four_leaf_clover|🍁 maple_leaf|
    🍂 fallen_leaf|🍃 leaf_fluttering_in_wind|🍄 mushroom|🐀 rat|🐁 mouse|🐂 ox|🐃 water_buffalo|🐄 cow|🐅 tiger|🐆 leopard|🐇 rabbit|🐈 cat|🐉 dragon|🐊 crocodile|
    🐋 whale|🐌 snail|🐍 snake|🐎 horse|🐏 ram|🐐 goat|🐑 sheep|🐒 monkey|🐓 rooster|🐔 chicken|🐕 dog|🐖 pig|🐗 boar|🐘 elephant|🐚 spiral_shell|🐜 ant|🐞 lady_beetle|
    🐠 tropical_fish|🐡 blowfish|🐣 hatching_chick|🐤 baby_chick|🐥 front_facing_baby_chick|🐨 koala|🐩 poodle|🐪 dromedary_camel|🐫 bactrian_camel|🐬 dolphin|
    🐮 cow_face|🐯 tiger_face|🐲 dragon_face|🐳 spouting_whale|🐴 horse_face|🐵 monkey_face|🐷 pig_face|🐹 hamster_face|🐺 wolf_face|🐽 pig_nose|🐾 paw_prints|
    💐 bouquet|💦 splashing_sweat|💧 droplet|💨 dash|💮 white_flower|🦀 crab|🦂 scorpion|🦃 turkey|🦅 eagle|🦆 duck|🦇 bat|🦈 shark|🦉 owl|🦌 deer|
    🦍 gorilla|🦎 lizard|🦏 rhinoceros|🦐 shrimp|🦑 squid|🦒 giraffe_face|🦓 zebra_face|🦔 hedgehog|🦕 sauropod|🦖 t_rex|🦗 cricket|🦘 kangaroo|🦙 llama|🦚 peacock|
    🦛 hippopotamus|🦜 parrot|🦝 raccoon|🦞 lobster|🦟 mosquito|🦠 microbe|🦡 badger|🦢 swan|🦣 mammoth|🦤 dodo|🦥 sloth|🦦 otter|🦧 orangutan|🦨 skunk|🦩 flamingo|
    🦪 oyster|🦫 beaver|🦬 bison|🦭 seal|🦮 guide_dog|🪰 fly|🪱 worm|🪲 beetle|🪳 cockroach|🪴 potted_plant|🪵 wood|🪶 feather|🪷 lotus|🪸 coral|🪹 empty_nest|
    🪺 nest_with_eggs|🪻 hyacinth|🪼 jellyfish|🪽 wing|🪾 leafless_tree|🪿 goose|🫎 moose|🫏 donkey|☁️ cloud|☃️ snowman|🌶️ hot_pepper|🐿️ chipmunk|🕊️ dove_of_peace`,
  food: `
    ☕ coffee hot_beverage 커피|🍅 tomato|🍎 apple red_apple|🍔 burger hamburger|🍕 pizza slice_of_pizza 피자|🍚 rice cooked_rice 밥|
    🍜 ramen noodles steaming_bowl 라면|🍞 bread|🍪 cookie|🍰 cake_slice shortcake|🍵 tea teacup_without_handle|🍷 wine|🍺 beer 맥주|
    🍻 beers cheers clinking_beer_mugs|🍆 aubergine|🍇 grapes|🍈 melon|🍉 watermelon|🍊 tangerine|🍋 lemon|🍌 banana|🍍 pineapple|🍏 green_apple|🍐 pear|🍑 peach|
    🍒 cherries|🍓 strawberry|🍖 meat_on_bone|🍗 poultry_leg|🍘 rice_cracker|🍙 rice_ball|🍛 curry_and_rice|🍝 spaghetti|🍟 french_fries|🍠 roasted_sweet_potato|
    🍡 dango|🍢 oden|🍣 sushi|🍤 fried_shrimp|🍥 fish_cake_swirl_design|🍦 soft_ice_cream|🍧 shaved_ice|🍨 ice_cream|🍩 doughnut|🍫 chocolate_bar|🍬 candy|
    🍭 lollipop|🍮 custard|🍯 honey_pot|🍱 bento_box|🍲 pot_of_food|🍳 cooking|🍴 fork_and_knife|🍶 sake_bottle_cup|🍸 cocktail_glass|🍹 tropical_drink|
    🍼 baby_bottle|🍾 bottle_popping_cork|🍿 popcorn|🥐 croissant|🥑 avocado|🥒 cucumber|🥓 bacon|🥔 potato|🥕 carrot|🥖 baguette_bread|🥗 green_salad|
    🥘 shallow_pan_food|🥙 stuffed_flatbread|🥚 egg|🥛 glass_of_milk|🥜 peanuts|🥝 kiwifruit|🥞 pancakes|🥟 dumpling|🥠 fortune_cookie|🥡 takeout_box|
    🥢 chopsticks|🥣 bowl_with_spoon|🥤 cup_with_straw|🥥 coconut|🥦 broccoli|🥧 pie|🥨 pretzel|🥩 cut_of_meat|🥪 sandwich|🥫 canned_food|🥬 leafy_green|🥭 mango|
    🥮 moon_cake|🥯 bagel|🧀 cheese_wedge|🧁 cupcake|🧂 salt_shaker|🧃 beverage_box|🧄 garlic|🧅 onion|🧆 falafel|🧇 waffle|🧈 butter|🧉 mate_drink|🧊 ice_cube|
    🧋 bubble_tea|🫐 blueberries|🫑 bell_pepper|🫒 olive|🫓 flatbread|🫔 tamale|🫕 fondue|🫖 teapot|🫗 pouring_liquid|🫘 beans|🫙 jar|🫚 ginger|🫛 pea_pod|🫜 root_vegetable|🫟 splatter|
    🍽️ fork_knife_plate`,
  play: `
    ⚽ soccer football|🎁 gift present wrapped_present 선물|🎂 birthday cake 생일 케이크|🎃 pumpkin halloween jack_o_lantern|
    🎄 christmas|🎈 balloon|🎉 tada party 축하|🎊 confetti|🎓 graduate graduation_cap|🎤 microphone karaoke|
    🎨 art artist_palette|🎮 game video_game|🎲 dice game_die|🎵 music note musical_note 음악|🎶 notes multiple_musical_notes|🎸 guitar|
    🏀 basketball|🏆 trophy|🥂 clink clinking_glasses|🥇 first gold|⚾ baseball|⛳ flag_in_hole|
    🀄 mahjong_tile_red_dragon|🃏 playing_card_black_joker|🎀 ribbon|🎅 father_christmas|🎆 fireworks|🎇 firework_sparkler|🎋 tanabata_tree|🎌 crossed_flags|
    🎍 pine_decoration|🎎 japanese_dolls|🎏 carp_streamer|🎐 wind_chime|🎑 moon_viewing_ceremony|🎒 school_satchel|🎠 carousel_horse|🎡 ferris_wheel|
    🎢 roller_coaster|🎣 fishing_pole_fish|🎥 movie_camera|🎦 cinema|🎧 headphone|🎩 top_hat|🎪 circus_tent|🎫 ticket|🎬 clapper_board|🎭 performing_arts|
    🎯 direct_hit|🎰 slot_machine|🎱 billiards|🎳 bowling|🎴 flower_playing_cards|🎷 saxophone|🎹 musical_keyboard|🎺 trumpet|🎻 violin|🎼 musical_score|
    🎽 running_shirt_sash|🎾 tennis_racquet_ball|🎿 ski_ski_boot|🏁 chequered_flag|🏂 snowboarder|🏄 surfer|🏅 sports_medal|🏇 horse_racing|
    🏈 american_football|🏉 rugby_football|🏊 swimmer|🏏 cricket_bat_ball|🏐 volleyball|🏑 field_hockey_stick_ball|🏒 ice_hockey_stick_puck|
    🏓 table_tennis_paddle_ball|🤼 wrestlers|🤽 water_polo|🤾 handball|🤿 diving_mask|🥀 wilted_flower|🥁 drum_with_drumsticks|🥃 tumbler_glass|🥄 spoon|
    🥅 goal_net|🥈 second_place_medal|🥉 third_place_medal|🥊 boxing_glove|🥋 martial_arts_uniform|🥌 curling_stone|🥍 lacrosse_stick_ball|🥎 softball|
    🥏 flying_disc|🧩 jigsaw_puzzle_piece|🧸 teddy_bear|🪀 yo_yo|🪁 kite|🪄 magic_wand|🪅 pinata|🪆 nesting_dolls|🪩 mirror_ball|🎙️ studio_microphone|
    🎛️ control_knobs|🎞️ film_frames|🎟️ admission_tickets|🏋️ weight_lifter|🎖️ military_medal|🏎️ racing_car|🏍️ racing_motorcycle`,
  travel: `
    🏠 house home 집|🚀 rocket ship_it 로켓|🚂 train steam_locomotive|🚗 car automobile 차|🚲 bike bicycle|✈️ airplane plane 비행기|⚓ anchor|
    ⛪ church|⛲ fountain|⛵ sailboat|⛺ tent|⛽ fuel_pump|🏡 house_with_garden|🏢 office_building|🏣 japanese_post_office|🏤 european_post_office|🏥 hospital|
    🏦 bank|🏧 automated_teller_machine|🏨 hotel|🏩 love_hotel|🏪 convenience_store|🏫 school|🏬 department_store|🏭 factory|🏮 izakaya_lantern|
    🏯 japanese_castle|🏰 european_castle|🕋 kaaba|🕌 mosque|🕍 synagogue|🗻 mount_fuji|🗼 tokyo_tower|🗽 statue_of_liberty|🗾 silhouette_of_japan|🗿 moyai|
    🚁 helicopter|🚃 railway_car|🚄 high_speed_train|🚅 high_speed_train_bullet_nose|🚆 train|🚇 metro|🚈 light_rail|🚉 station|🚊 tram|🚋 tram_car|🚌 bus|
    🚍 oncoming_bus|🚎 trolleybus|🚏 bus_stop|🚐 minibus|🚑 ambulance|🚒 fire_engine|🚓 police_car|🚔 oncoming_police_car|🚕 taxi|🚖 oncoming_taxi|
    🚘 oncoming_automobile|🚙 recreational_vehicle|🚚 delivery_truck|🚛 articulated_lorry|🚜 tractor|🚝 monorail|🚞 mountain_railway|🚟 suspension_railway|
    🚠 mountain_cableway|🚡 aerial_tramway|🚢 ship|🚣 rowboat|🚤 speedboat|🚥 horizontal_traffic_light|🚦 vertical_traffic_light|🚧 construction|
    🚳 no_bicycles|🚴 bicyclist|🛕 hindu_temple|🛖 hut|🛝 playground_slide|🛴 scooter|🛵 motor_scooter|🛶 canoe|🛷 sled|🛸 flying_saucer|🛹 skateboard|
    🛺 auto_rickshaw|🛻 pickup_truck|🛼 roller_skate|🏖️ beach_with_umbrella|🏝️ desert_island|🏔️ snow_capped_mountain|🏕️ camping|🗺️ world_map|
    🛳️ passenger_ship`,
  things: `
    ⌚ watch|⏰ alarm|💡 bulb idea electric_light_bulb 아이디어|💰 money|💸 money_gone money_with_wings|
    💻 laptop computer personal_computer|📅 calendar|📌 pin pushpin 고정|📎 paperclip|📖 book open_book|📚 books|📝 memo|📧 email e_mail|
    📱 phone mobile|📷 camera 사진|🔍 search mag|🔑 key|🔒 lock|🔓 unlock open_lock|🔔 bell|
    🔕 no_bell bell_cancellation_stroke|🔧 wrench|🔨 hammer|✉️ envelope mail|⚙️ gear|⌛ hourglass|⏳ hourglass_flowing_sand|🌭 hot_dog|🌮 taco|🌯 burrito|
    💈 barber_pole|💉 syringe|💊 pill|💋 kiss_mark|💌 love_letter|💍 ring|💎 gem_stone|💏 kiss|💑 couple_with_heart|💒 wedding|💣 bomb|💱 currency_exchange|
    💲 dollar|💳 credit_card|💴 banknote_yen|💵 banknote_dollar|💶 banknote_euro|💷 banknote_pound|💹 chart_upwards_trend_yen|💺 seat|💼 briefcase|
    💽 minidisc|💾 floppy_disk|💿 optical_disc|📀 dvd|📁 file_folder|📂 open_file_folder|📃 page_with_curl|📄 page_facing_up|📆 tear_off_calendar|📇 card_index|
    📈 chart_upwards_trend|📉 chart_downwards_trend|📊 bar_chart|📋 clipboard|📍 round_pushpin|📏 straight_ruler|📐 triangular_ruler|📑 bookmark_tabs|📒 ledger|
    📓 notebook|📔 notebook_decorative_cover|📕 closed_book|📗 green_book|📘 blue_book|📙 orange_book|📛 name_badge|📜 scroll|📞 telephone_receiver|📟 pager|
    📠 fax_machine|📡 satellite_antenna|📢 public_address_loudspeaker|📣 cheering_megaphone|📤 outbox_tray|📥 inbox_tray|📦 package|📨 incoming_envelope|
    📩 envelope_downwards_arrow_above|📪 closed_mailbox_lowered_flag|📫 closed_mailbox_raised_flag|📬 open_mailbox_raised_flag|📭 open_mailbox_lowered_flag|
    📮 postbox|📯 postal_horn|📰 newspaper|📲 mobile_phone_rightwards_arrow_at_left|📳 vibration_mode|📴 mobile_phone_off|📵 no_mobile_phones|
    📶 antenna_with_bars|📸 camera_with_flash|📹 video_camera|📺 television|📻 radio|📼 videocassette|📿 prayer_beads|🔇 speaker_cancellation_stroke|🔈 speaker|
    🔉 speaker_one_sound_wave|🔊 speaker_three_sound_waves|🔋 battery|🔌 electric_plug|🔎 right_pointing_magnifying_glass|🔏 lock_ink_pen|🔐 closed_lock_key|
    🔖 bookmark|🔗 link|🔦 electric_torch|🔩 nut_and_bolt|🔪 hocho|🔫 pistol|🔬 microscope|🔭 telescope|🔮 crystal_ball|🚨 police_cars_revolving_light|
    🚩 triangular_flag_on_post|🚪 door|🚿 shower|🛀 bath|🛁 bathtub|🛌 sleeping_accommodation|🛐 place_of_worship|🛒 shopping_trolley|🛗 elevator|🛘 landslide|🛜 wireless wifi|🛞 wheel|
    🛟 ring_buoy|🛫 airplane_departure|🛬 airplane_arriving|🥻 sari|🥼 lab_coat|🥽 goggles|🥾 hiking_boot|🥿 flat_shoe|🦯 probing_cane|
    🦰 emoji_component_red_hair|🦱 emoji_component_curly_hair|🦲 emoji_component_bald|🦳 emoji_component_white_hair|🦿 mechanical_leg|🧌 troll|🧢 billed_cap|
    🧣 scarf|🧤 gloves|🧥 coat|🧦 socks|🧧 red_gift_envelope|🧨 firecracker|🧪 test_tube|🧫 petri_dish|🧬 dna_double_helix|🧭 compass|🧮 abacus|
    🧯 fire_extinguisher|🧰 toolbox|🧱 brick|🧲 magnet|🧳 luggage|🧴 lotion_bottle|🧵 spool_of_thread|🧶 ball_of_yarn|🧷 safety_pin|🧹 broom|🧺 basket|
    🧻 roll_of_paper|🧼 bar_of_soap|🧽 sponge|🧾 receipt|🧿 nazar_amulet|🩰 ballet_shoes|🩱 one_piece_swimsuit|🩲 briefs|🩳 shorts|🩴 thong_sandal|
    🩸 drop_of_blood|🩹 adhesive_bandage|🩺 stethoscope|🩻 x_ray|🩼 crutch|🪂 parachute|🪃 boomerang|🪇 maracas|🪈 flute|🪉 harp|🪊 trombone|🪎 treasure_chest|🪏 shovel|🪐 ringed_planet|🪑 chair|🪒 razor|🪓 axe|
    🪔 diya_lamp|🪕 banjo|🪖 military_helmet|🪗 accordion|🪘 long_drum|🪙 coin|🪚 carpentry_saw|🪛 screwdriver|🪜 ladder|🪝 hook|🪞 mirror|🪟 window_pane|🪠 plunger|
    🪡 sewing_needle|🪢 knot|🪣 bucket|🪤 mouse_trap|🪥 toothbrush|🪦 headstone|🪧 placard|🪨 rock|🪪 identification_card|🪫 low_battery|🪬 hamsa|🪭 fan|🪮 hair_pick|🪯 khanda|
    🫀 anatomical_heart|🫁 lungs|🫆 fingerprint|🫈 hairy_creature|🫍 orca|☎️ black_telephone|✏️ pencil|✂️ black_scissors|⚖️ scales|⚔️ crossed_swords|🌡️ thermometer|🕯️ candle|
    🕰️ mantelpiece_clock|🖊️ lower_left_ballpoint_pen|🖌️ lower_left_paintbrush|🖥️ desktop_computer|🖨️ printer|🖱️ three_button_mouse|🗑️ wastebasket|
    🗓️ spiral_calendar_pad|🗝️ old_key|🛋️ couch_and_lamp|🛍️ shopping_bags|🛏️ bed|🛠️ hammer_and_wrench|🛡️ shield|🖼️ frame_with_picture|
    🏴 waving_black_flag|🏸 badminton_racquet_shuttlecock|🏹 bow_and_arrow|🏺 amphora`,
  signs: `
    💔 broken_heart|💙 blue_heart|💚 green_heart|💛 yellow_heart|💜 purple_heart|🖤 black_heart|🧡 orange_heart|❤️ heart red_heart heavy_black_heart 하트 사랑|
    ✅ check done white_check_mark 완료 확인|❌ x cross 아니|❓ question 질문|
    ❗ exclamation heavy_exclamation_mark|➕ plus heavy_plus|➖ minus heavy_minus|💤 zzz sleeping|💥 boom collision|
    💯 100 hundred 백점|🚫 no_entry forbidden|✔️ tick heavy_check_mark|⚠️ warning 경고|
    ♻️ recycle black_universal_recycling|⏩ black_right_pointing_double_triangle|⏪ black_left_pointing_double_triangle|
    ⏫ black_up_pointing_double_triangle|⏬ black_down_pointing_double_triangle|◽ white_medium_small_square|◾ black_medium_small_square|♈ aries|♉ taurus|
    ♊ gemini|♋ cancer|♌ leo|♍ virgo|♎ libra|♏ scorpius|♐ sagittarius|♑ capricorn|♒ aquarius|♓ pisces|♿ wheelchair|⚪ medium_white_circle|
    ⚫ medium_black_circle|⛎ ophiuchus|⛔ no_entry|❎ negative_squared_cross_mark|❔ white_question_mark_ornament|❕ white_exclamation_mark_ornament|
    ➗ division|➰ curly_loop|➿ double_curly_loop|⬛ black_large_square|⬜ white_large_square|⭕ heavy_large_circle|🆎 negative_squared_ab|
    🆑 squared_cl|🆒 squared_cool|🆓 squared_free|🆔 squared_id|🆕 squared_new|🆖 squared_ng|🆗 squared_ok|🆘 squared_sos|🆙 squared_up_exclamation_mark|
    🆚 squared_vs|🈁 squared_katakana_koko|🈚 squared_cjk_unified_ideograph_7121|🈯 squared_cjk_unified_ideograph_6307|
    🈲 squared_cjk_unified_ideograph_7981|🈳 squared_cjk_unified_ideograph_7a7a|🈴 squared_cjk_unified_ideograph_5408|
    🈵 squared_cjk_unified_ideograph_6e80|🈶 squared_cjk_unified_ideograph_6709|🈸 squared_cjk_unified_ideograph_7533|
    🈹 squared_cjk_unified_ideograph_5272|🈺 squared_cjk_unified_ideograph_55b6|🉐 circled_ideograph_advantage|🉑 circled_ideograph_accept|💓 beating_heart|
    💕 two_hearts|💖 sparkling_heart|💗 growing_heart|💘 heart_with_arrow|💝 heart_with_ribbon|💞 revolving_hearts|💟 heart_decoration|
    💠 diamond_shape_a_dot_inside|💢 anger|💫 dizzy|💬 speech_balloon|💭 thought_balloon|🔀 twisted_rightwards_arrows|
    🔁 clockwise_rightwards_leftwards_open_circle_arrows|🔂 clockwise_rightwards_leftwards_open_circle_arrows_circled_one_overlay|
    🔃 clockwise_downwards_upwards_open_circle_arrows|🔄 anticlockwise_downwards_upwards_open_circle_arrows|🔅 low_brightness|
    🔆 high_brightness|🔘 radio_button|🔙 back_leftwards_arrow_above|🔚 end_leftwards_arrow_above|🔛 on_exclamation_mark_left_right_arrow_above|
    🔜 soon_rightwards_arrow_above|🔝 top_upwards_arrow_above|🔞 no_one_under_eighteen|🔟 keycap_ten|🔠 input_for_latin_capital_letters|
    🔡 input_for_latin_small_letters|🔢 input_for_numbers|🔣 input_for_symbols|🔤 input_for_latin_letters|🔯 six_pointed_star_middle_dot|
    🔰 japanese_for_beginner|🔱 trident_emblem|🔲 black_square_button|🔳 white_square_button|🔴 large_red_circle|🔵 large_blue_circle|🔶 large_orange_diamond|
    🔷 large_blue_diamond|🔸 small_orange_diamond|🔹 small_blue_diamond|🔺 up_pointing_red_triangle|🔻 down_pointing_red_triangle|
    🔼 up_pointing_small_red_triangle|🔽 down_pointing_small_red_triangle|🕎 menorah_nine_branches|🕐 clock_one_oclock|🕑 clock_two_oclock|
    🕒 clock_three_oclock|🕓 clock_four_oclock|🕔 clock_five_oclock|🕕 clock_six_oclock|🕖 clock_seven_oclock|🕗 clock_eight_oclock|🕘 clock_nine_oclock|
    🕙 clock_ten_oclock|🕚 clock_eleven_oclock|🕛 clock_twelve_oclock|🕜 clock_one_thirty|🕝 clock_two_thirty|🕞 clock_three_thirty|🕟 clock_four_thirty|
    🕠 clock_five_thirty|🕡 clock_six_thirty|🕢 clock_seven_thirty|🕣 clock_eight_thirty|🕤 clock_nine_thirty|🕥 clock_ten_thirty|🕦 clock_eleven_thirty|
    🕧 clock_twelve_thirty|🚬 smoking|🚭 no_smoking|🚮 put_litter_in_its_place|🚯 do_not_litter|🚰 potable_water|🚱 non_potable_water|
    🚵 mountain_bicyclist|🚷 no_pedestrians|🚸 children_crossing|🚹 mens_room|🚺 womens_room|🚻 restroom|🚼 baby|🚽 toilet|🚾 water_closet|
    🛂 passport_control|🛃 customs|🛄 baggage_claim|🛅 left_luggage|🛑 stop_sign|🟠 large_orange_circle|🟡 large_yellow_circle|🟢 large_green_circle|
    🟣 large_purple_circle|🟤 large_brown_circle|🟥 large_red_square|🟦 large_blue_square|🟧 large_orange_square|🟨 large_yellow_square|🟩 large_green_square|
    🟪 large_purple_square|🟫 large_brown_square|🟰 equals|🤍 white_heart|🤎 brown_heart|🩵 light_blue_heart|🩶 grey_heart|🩷 pink_heart|☠️ skull_and_crossbones|☢️ radioactive|
    ☂️ umbrella|▶️ black_right_pointing_triangle|⏸️ double_vertical_bar|⏹️ black_square_for_stop|⏺️ black_circle_for_record|
    ⏭️ black_right_pointing_double_triangle_vertical_bar|⏮️ black_left_pointing_double_triangle_vertical_bar|ℹ️ information_source|♥️ black_heart_suit|
    ♠️ black_spade_suit|♦️ black_diamond_suit|♣️ black_club_suit|☮️ peace|☯️ yin_yang|✡️ star_of_david|✝️ latin_cross|☪️ star_and_crescent|
    ♾️ infinity|‼️ double_exclamation_mark|⁉️ exclamation_question_mark|✳️ eight_spoked_asterisk|❇️ sparkle|©️ copyright|
    ®️ registered|™️ trade_mark|Ⓜ️ circled_latin_capital_letter_m|🅰️ negative_squared_latin_capital_letter_a|
    🅱️ negative_squared_latin_capital_letter_b|🅾️ negative_squared_latin_capital_letter_o|🅿️ negative_squared_latin_capital_letter_p|
    ↗️ north_east_arrow|↘️ south_east_arrow|↙️ south_west_arrow|↖️ north_west_arrow|↔️ left_right_arrow|↕️ up_down_arrow|⬆️ upwards_black_arrow|
    ⬇️ downwards_black_arrow|⬅️ leftwards_black_arrow|➡️ black_rightwards_arrow|↩️ leftwards_arrow_hook|↪️ rightwards_arrow_hook`,
});
